package storetest_test

import (
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker/storetest"
)

func TestModel_PassesTheSuite(t *testing.T) {
	t.Parallel()
	storetest.Exercise(t, func(testing.TB) storetest.Engine { return storetest.NewModel() }, 200)
}
