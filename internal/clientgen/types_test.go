package clientgen_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/breakerd/breakerd/internal/clientgen"
)

var update = flag.Bool("update", false, "write pkg/client/types.go and internal/ui/types/api.d.ts")

// TestTypes_AreThoseOfTheDocuments: every field of every schema that an operation takes or gives is a field of a Go
// type, and no other is.
func TestTypes_AreThoseOfTheDocuments(t *testing.T) {
	t.Parallel()
	breakerd, bridge := clientgen.Documents(t)
	same(t, "../../pkg/client/types.go", clientgen.New(t, breakerd, bridge).Source(breakerd, bridge))
}

// TestTypeScript_IsThatOfTheDocument: the page's scripts are checked by these types.
func TestTypeScript_IsThatOfTheDocument(t *testing.T) {
	t.Parallel()
	breakerd, _ := clientgen.Documents(t)
	same(t, "../ui/types/api.d.ts", clientgen.TypeScript(t, breakerd))
}

// same wants a file to hold this text, and with -update writes it.
func same(t *testing.T, path string, text []byte) {
	t.Helper()
	if *update && !t.Failed() {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, text) {
		t.Errorf("%s is not what the OpenAPI documents say (%v): run go test ./internal/clientgen -update", path, err)
	}
}
