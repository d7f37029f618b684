package registry_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestKnown_ReadsManyAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "agents.json")
		write(t, path, one("file", "h"))
		d := newProfiles(`{"url": "http://h"}`)
		d.of["damaged"], d.of["bare"] = `{"url": 5}`, `{}`
		r := over(t, registry.Options{Path: path, Profiles: d})
		_ = host(t, r, "a") // both answers are fresh now
		_ = host(t, r, "unregistered")
		known := func(want, asked string, names ...string) {
			t.Helper()
			d.asked = nil
			unknown, err := r.Known(t.Context(), names)
			if got := strings.Join(unknown, " "); err != nil || got != want {
				t.Errorf("unknown are %q, %v, want %q", got, err, want)
			}
			if asked == "" && len(d.asked) > 0 || asked != "" && (len(d.asked) != 1 || strings.Join(d.asked[0], " ") != asked) {
				t.Errorf("asked for %q, want %q, once", d.asked, asked)
			}
		}
		known("unregistered b damaged ../x", "b damaged bare", "file", "unregistered", "b", "a", "b", "damaged", "bare", "../x", "unregistered")
		known("unregistered", "", "a", "unregistered", "file")
		known("", "")
		<-time.After(2 * time.Second)
		known("unregistered", "a unregistered", "a", "unregistered", "file")
	})
}

func TestKnown_IsBoundedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var trouble []error
		down := false
		d := newProfiles(`{"url": "http://h"}`)
		r := over(t, registry.Options{
			Profiles: d, OnError: func(err error) { trouble = append(trouble, err) }, StoreDown: func() bool { return down },
		})
		_ = host(t, r, "a")
		d.set("", nil, time.Hour)
		start := time.Now()
		if _, err := r.Known(t.Context(), []string{"b", "c"}); !errors.Is(err, breaker.ErrStoreUnavailable) || time.Since(start) != 250*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if len(trouble) != 1 || !errors.Is(trouble[0], breaker.ErrStoreUnavailable) {
			t.Errorf("trouble %v", trouble)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := r.Known(ctx, []string{"b"}); !errors.Is(err, breaker.ErrStoreUnavailable) || len(trouble) != 1 {
			t.Errorf("got %v, trouble %v: that a caller leaves is no error of the store", err, trouble)
		}
		down = true
		<-time.After(time.Minute)
		start = time.Now()
		if unknown, err := r.Known(t.Context(), []string{"a"}); err != nil || len(unknown) > 0 {
			t.Errorf("the last answer holds while Redis is down: %q, %v", unknown, err)
		}
		if _, err := r.Known(t.Context(), []string{"a", "b"}); !errors.Is(err, breaker.ErrStoreUnavailable) || time.Since(start) != 0 {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func TestAgent_FailedReadIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var trouble []error
		d := newProfiles(`{"url": "http://h"}`)
		r := over(t, registry.Options{Profiles: d, OnError: func(err error) { trouble = append(trouble, err) }})
		if got := host(t, r, "a"); got != "h" || len(trouble) != 0 {
			t.Errorf("%s, trouble %v", got, trouble)
		}
		d.set("", nil, time.Hour)
		if _, err := r.Agent(t.Context(), "b"); !errors.Is(err, breaker.ErrStoreUnavailable) {
			t.Error(err)
		}
		if len(trouble) != 1 || !errors.Is(trouble[0], breaker.ErrStoreUnavailable) {
			t.Errorf("trouble %v", trouble)
		}
	})
}

func TestKnown_WithoutAStoreIsOfTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agents.json")
	write(t, path, one("file", "h"))
	if unknown, err := over(t, registry.Options{Path: path}).Known(t.Context(), []string{"a", "file"}); err != nil || !slices.Equal(unknown, []string{"a"}) {
		t.Errorf("got %q, %v", unknown, err)
	}
}
