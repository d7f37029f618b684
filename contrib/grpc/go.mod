module github.com/breakerd/breakerd/contrib/grpc

go 1.26.0

require (
	github.com/breakerd/breakerd v0.0.0
	go.uber.org/goleak v1.3.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261110000943-09e21b237f2c
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/puzpuzpuz/xsync/v4 v4.5.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

// Both modules change together, in one repository: this one is built with the breakers that stand beside it. A replace
// holds only here; who requires this module gets the version that it requires.
replace github.com/breakerd/breakerd => ../..
