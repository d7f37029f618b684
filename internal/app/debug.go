package app

import (
	"net/http"
	"net/http/pprof"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/guard"
)

// debugListener serves the profiles of this process. The import of net/http/pprof adds them to
// [http.DefaultServeMux] too, which no listener of ours serves.
func debugListener(listen string) daemon.Listener {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return daemon.Listener{
		Listen: listen, Variable: "DEBUG_LISTEN", Handler: guard.Chain(mux, guard.Loopback),
		Stream: true, Plain: true,
	}
}
