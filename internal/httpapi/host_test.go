package httpapi

import "testing"

func TestOnlyLoopbackNamesReachALoopbackListener(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost:18180": true, "LOCALHOST": true, "127.0.0.1:18180": true, "127.8.9.1": true, "[::1]:18180": true, "[::1]": true, "::1": true,
		"": true, "evil.example:18180": false, "10.0.0.1:18180": false, "localhost.evil.example": false, "0.0.0.0:18180": false, "[::]:1": false,
	} {
		if got := loopbackHost(host); got != want {
			t.Errorf("loopbackHost(%q) = %v", host, got)
		}
	}
}
