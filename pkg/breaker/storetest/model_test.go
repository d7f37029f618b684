package storetest_test

import (
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker/storetest"
)

func TestTranscriptsOnStep(t *testing.T) {
	t.Parallel()
	storetest.Transcripts(t, func(testing.TB) storetest.Engine { return storetest.NewModel() })
}
