package clientgen_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/breakerd/breakerd/internal/clientgen"
)

var update = flag.Bool("update", false, "write pkg/client/types.go")

// TestTypes_AreThoseOfTheDocuments: every field of every schema that an operation takes or gives is a field of a Go
// type, and no other is.
func TestTypes_AreThoseOfTheDocuments(t *testing.T) {
	t.Parallel()
	const path = "../../pkg/client/types.go"
	breakerd, bridge := clientgen.Documents(t)
	text := clientgen.New(t, breakerd, bridge).Source(breakerd, bridge)
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
