package policy_test

import (
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
)

func TestParseRecord_ReadsWhatMarshalJSONWrites(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{}`, `{"failure_threshold":3}`, `{"_by":"alice"}`,
		`{"failure_threshold":3,"_by":"alice","_at":"2026-02-11T09:00:00Z","_reason":"load \"test\"","_until":"2026-02-11T10:00:00Z"}`,
	} {
		r, err := policy.ParseRecord([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.MarshalJSON(); err != nil || string(out) != text {
			t.Errorf("%s: %s %v", text, out, err)
		}
		if o, err := policy.Parse([]byte(text)); err != nil || o != r.Override {
			t.Errorf("%s: %v %v", text, o, err)
		}
	}
	for _, text := range []string{
		`{"_by":"a b"}`, `{"_by":7}`, `{"_at":"yesterday"}`, `{"_until":0}`, `{"_until":"99999-01-01T00:00:00Z"}`, `{"_reason":"a\nb"}`,
		`{"_else":""}`, `{"_by":"a","_by":"b"}`, `{"_ended":"x"}`, `{"_":1}`,
	} {
		if r, err := policy.ParseRecord([]byte(text)); err == nil {
			t.Errorf("%s: %v", text, r)
		}
	}
	now := time.Now()
	if (policy.Record{}).Ended(now) || !(policy.Record{Until: now}).Ended(now) || (policy.Record{Until: now.Add(1)}).Ended(now) {
		t.Error("Ended")
	}
}
