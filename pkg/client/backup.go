package client

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/backup"
)

// Backup says what a backup is of, and what it holds.
type Backup struct {
	TakenAt time.Time      `json:"taken_at"` // when it was begun, by Redis' clock
	Version string         `json:"version"`  // of the breakerd that wrote it
	Replica string         `json:"replica"`  // which one
	Prefix  string         `json:"prefix"`   // of the keys
	Born    string         `json:"born"`     // the identity of Redis' data
	Records map[string]int `json:"records"`  // by section: holds, breakers, overrides and so on
	SHA256  string         `json:"sha256"`   // of the file without its footer
}

// VerifyBackup reads a whole backup, and says what it holds. It asks no server. An error says that the file is no
// backup, is broken or cut, or is of a newer version; or it is of the reader.
func VerifyBackup(file io.Reader) (Backup, error) {
	h, f, err := backup.Verify(file, nil)
	if err != nil {
		return Backup{}, err
	}
	out := Backup{
		TakenAt: time.UnixMilli(h.TakenMs).UTC(), Version: h.Version, Replica: h.Replica, Prefix: h.Prefix, Born: h.Born,
		Records: map[string]int{}, SHA256: f.SHA256,
	}
	for section, n := range f.Records {
		out.Records[string(section)] = n
	}
	return out, nil
}

// GetBackup writes a backup of the fleet to a writer, and verifies it on the way; a nil writer only has it verified.
// After an error, what was written is none: it has to be thrown away.
func (c *Client) GetBackup(ctx context.Context, to io.Writer) (Backup, error) {
	asked := get("/v1/admin/backup").by()
	body, cancel, err := c.open(ctx, asked)
	if err != nil {
		return Backup{}, err
	}
	defer cancel()
	if to == nil {
		to = io.Discard
	}
	out, err := VerifyBackup(io.TeeReader(body, to))
	if err != nil {
		return Backup{}, fmt.Errorf("%s: %w", asked, err)
	}
	return out, nil
}

// RestoreQuery says what of a backup is restored, and how.
type RestoreQuery struct {
	DryRun    bool     // only say what would be done
	Only      []string // these sections; nil: all
	Overwrite bool     // also replace what is newer, or may be
}

// maxRestore is how long a restore may take: longer than a server lets it.
const maxRestore = 15 * time.Minute

// RestoreBackup puts back what a backup of so many bytes holds, once the server has verified all of it. It may be
// repeated: what was done stays.
func (c *Client) RestoreBackup(
	ctx context.Context, file io.ReaderAt, size int64, q RestoreQuery,
) (out Restoration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxRestore, fmt.Errorf("no answer within %v", maxRestore))
	defer cancel()
	r := post(nil, "/v1/admin/restore").by()
	r.upload, r.endless = &upload{"application/gzip", file, size}, true
	if q.DryRun {
		r.query.add("dry_run", strconv.FormatBool(true))
	}
	if q.Overwrite {
		r.query.add("overwrite", strconv.FormatBool(true))
	}
	r.query.add("only", strings.Join(q.Only, ","))
	_, err = c.do(ctx, r, &out)
	return out, err
}
