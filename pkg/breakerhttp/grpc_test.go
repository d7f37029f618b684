package breakerhttp

import (
	"net/http"
	"testing"
)

func TestReading_GRPC(t *testing.T) { // FIELD G13
	t.Parallel()
	want := map[string]string{
		"0": "", "1": "ignored grpc_1", "2": "ignored grpc_2", "3": "ignored grpc_3", "4": "failure grpc_4",
		"5": "ignored grpc_5", "6": "ignored grpc_6", "7": "ignored grpc_7", "8": "failure grpc_8", "9": "ignored grpc_9",
		"10": "ignored grpc_10", "11": "ignored grpc_11", "12": "ignored grpc_12", "13": "failure grpc_13",
		"14": "failure grpc_14", "15": "failure grpc_15", "16": "ignored grpc_16", "17": "ignored grpc_unknown",
		"4294967295": "failure grpc_no_status", "-1": "failure grpc_no_status", "": "failure grpc_no_status",
		"x": "failure grpc_no_status", "00": "", "014": "failure grpc_14",
	}
	for _, c := range []BodyClassifier{GRPC, Auto} {
		for _, kind := range []string{"application/grpc", "application/grpc+proto", "Application/gRPC; x=y"} {
			for status, want := range want {
				h := http.Header{"Content-Type": {kind}}
				resp := &http.Response{Header: h.Clone()}
				r := newReading(c, Statuses{}, resp)
				if !r.read([]byte{0}) || !r.flowing() {
					t.Error("a byte does not flow")
				}
				if _, ok := r.found(); ok {
					t.Error("decides before the trailer")
				}
				resp.Trailer = http.Header{"Grpc-Status": {status}}
				if r.finish(); described(r) != want {
					t.Errorf("%s, %s: trailer %q: %q, want %q", c, kind, status, described(r), want)
				}
				h.Set("Grpc-Status", status)
				r = newReading(c, Statuses{}, &http.Response{Header: h})
				if r.finish(); described(r) != want {
					t.Errorf("%s, %s: header %q: %q, want %q", c, kind, status, described(r), want)
				}
			}
		}
	}
}

func TestReading_GRPCWithoutStatus(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"application/grpc": "failure grpc_no_status", "application/grpc-web+proto": "", "application/json": "", "": "",
	} {
		r := newReading(GRPC, Statuses{}, &http.Response{Header: http.Header{"Content-Type": {kind}}})
		r.read([]byte(`{"error":{"code":1}}`))
		if r.finish(); described(r) != want {
			t.Errorf("%q: %q, want %q", kind, described(r), want)
		}
	}
	r := newReading(GRPC, Statuses{}, &http.Response{Header: http.Header{"Content-Type": {"application/grpc"}}})
	if r.release(); described(r) != "" {
		t.Errorf("closed early: %q", described(r))
	}
	r = newReading(GRPC, Statuses{}, &http.Response{Header: http.Header{"Content-Type": {"application/grpc"}, "Grpc-Status": {"14"}}})
	if _, ok := r.found(); !ok {
		t.Error("a status in the header does not decide at once")
	}
}
