package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/redisdocs"
)

// backups writes and restores backups: what Redis holds, and beside it what this replica goes by.
type backups struct{ *service }

var _ httpapi.Backups = backups{}

// flushEvery is after how many records what was written goes out.
const flushEvery = 200

// Header implements [httpapi.Backups].
func (b backups) Header(ctx context.Context) (backup.Header, error) {
	h, err := b.Docs.BackupHeader(ctx)
	h.Version, h.Replica = daemon.Version(), b.ID
	return h, err
}

// Write implements [httpapi.Backups].
func (b backups) Write(ctx context.Context, h backup.Header, out io.Writer) error {
	w, err := backup.NewWriter(out, h)
	if err == nil {
		err = b.writeDefaults(w)
	}
	if err != nil {
		return err
	}
	n, found := 0, map[string]bool{}
	err = b.Docs.Backup(ctx, func(r backup.Record) error {
		if r.Section == backup.Registry {
			r.File = b.filed(r.Name)
			found[r.Name] = true
		}
		if n++; n%flushEvery == 0 {
			return errors.Join(w.Write(r), w.Flush())
		}
		return w.Write(r)
	})
	if err != nil {
		return err
	}
	for _, a := range b.Registry.Filed() { // those that nobody has called
		if found[a.Name] {
			continue
		}
		if err := w.Write(backup.Record{Section: backup.Registry, Name: a.Name, File: b.filed(a.Name)}); err != nil {
			return err
		}
	}
	return w.Close()
}

// writeDefaults writes the policy of an agent that has no override.
func (b backups) writeDefaults(w *backup.Writer) error {
	defaults := map[string]any{}
	for _, f := range policy.Fields(b.cfg.Policy) {
		defaults[f.Name] = f.Value
	}
	values, err := json.Marshal(defaults)
	if err != nil {
		return err
	}
	return w.Write(backup.Record{Section: backup.Policy, Values: values})
}

// filed is what the agent registry's file says of an agent; nil: it does not have it.
func (b backups) filed(agent string) json.RawMessage {
	a, ok := b.Registry.InFile(agent)
	if !ok {
		return nil
	}
	text, err := json.Marshal(a.Form())
	if err != nil { // it was read from JSON, so it is some
		return nil
	}
	return text
}

// Restore implements [httpapi.Backups].
func (b backups) Restore(
	ctx context.Context, in *backup.Reader, o redisdocs.RestoreOptions,
) (*redisdocs.Restoration, error) {
	o.Filed = func(agent string) []byte { return b.filed(agent) }
	return b.Docs.Restore(ctx, in, o)
}
