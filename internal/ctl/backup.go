package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

const backupExtension = ".jsonl.gz"

func (c *cli) backupCommand() *cobra.Command {
	group := &cobra.Command{Use: "backup", Short: "write all that Redis holds to a file; restore it"}
	group.AddCommand(c.backupCreate(), c.backupVerify(), c.backupRestore())
	return group
}

// backupFile is a backup of this machine, as it is shown.
type backupFile struct {
	client.Backup

	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

func (c *cli) printBackup(b backupFile) error {
	count := func(section string) string { return strconv.Itoa(b.Records[section]) }
	return c.print(output{
		value: b, names: []string{b.File},
		head: []string{"FILE", "TAKEN", "BYTES", "HOLDS", "BREAKERS", "OVERRIDES", "+VERSION", "+SHA256"},
		rows: [][]string{{
			b.File, b.TakenAt.Format(time.RFC3339), strconv.FormatInt(b.Bytes, 10), count("holds"), count("breakers"),
			count("overrides"), b.Version, b.SHA256,
		}},
	})
}

func (c *cli) backupCreate() *cobra.Command {
	var destination, command, kind string
	cmd := &cobra.Command{
		Use: "create --destination DIR", Short: "write a backup, and verify it", Args: noArgs,
		Example: `  breakerctl backup create --destination /var/backups/breakerd
  breakerctl backup create --to-command 'aws s3 cp - "s3://b/$BACKUP_NAME"'
  breakerctl backup create --destination - >backup.jsonl.gz`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kind != "full" {
				return usagef("--type full", "there are full backups only, and no %q", kind)
			}
			if command != "" && cmd.Flags().Changed("destination") {
				return usagef(cmd.CommandPath()+" --help", "--destination and --to-command exclude each other")
			}
			return c.createBackup(cmd.Context(), destination, command)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&destination, "destination", ".", "the directory; - is stdout")
	flags.StringVar(&command, "to-command", "", "a shell command that reads the file; $BACKUP_NAME is its name")
	flags.StringVar(&kind, "type", "full", "full: there is no other")
	flags.Bool("compress", true, "it is compressed in any case")
	return cmd
}

// localDirectory refuses what is no directory of this machine.
func localDirectory(destination string) error {
	if scheme, _, ok := strings.Cut(destination, "://"); ok {
		return usagef(`--to-command 'aws s3 cp - "s3://BUCKET/$BACKUP_NAME"'`,
			"--destination takes a directory, not %s://: --to-command hands the file to a program that stores it", scheme)
	}
	info, err := os.Stat(destination)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", destination)
	}
	return err
}

// createBackup writes a backup into a directory, to stdout, or to a command. Nobody sees one that is not whole: but on
// stdout, where the exit code says so.
func (c *cli) createBackup(ctx context.Context, destination, command string) error {
	to, err := c.client()
	if err != nil {
		return err
	}
	if destination == "-" && command == "" {
		_, err := to.GetBackup(ctx, c.Out)
		return backupFailure(err)
	}
	directory := destination
	if command != "" {
		directory = os.TempDir()
	}
	if err := localDirectory(directory); err != nil {
		return err
	}
	file, err := os.CreateTemp(directory, ".backup-*.tmp") // 0600
	if err != nil {
		return err
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name()) // unless it has another name by now
	}()
	progress := c.progress("bytes received")
	made, err := to.GetBackup(ctx, io.MultiWriter(file, progress))
	progress.end()
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return backupFailure(err)
	}
	shown := backupFile{Backup: made, File: "backup-" + made.TakenAt.Format("20060102-150405") + backupExtension}
	if shown.Bytes, err = file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if command != "" {
		if err := c.pipeTo(ctx, command, file, shown.File); err != nil {
			return err
		}
		return c.printBackup(shown)
	}
	shown.File = filepath.Join(directory, shown.File)
	if err := os.Rename(file.Name(), shown.File); err != nil {
		return err
	}
	return c.printBackup(shown)
}

// pipeTo hands a whole backup to a command of the user's.
func (c *cli) pipeTo(ctx context.Context, command string, file *os.File, name string) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	run := exec.CommandContext(ctx, "sh", "-c", command) //nolint:gosec // who types the command runs it
	run.Env = append(os.Environ(), "BACKUP_NAME="+name)
	run.Stdin, run.Stdout, run.Stderr = file, c.Err, c.Err
	if err := run.Run(); err != nil {
		return &failure{
			Exit: exitFailed, Code: "command_failed",
			Message: fmt.Sprintf("the backup is whole, and was not stored: %s: %v", command, err),
			Next:    "run the command by hand, or use --destination DIR",
		}
	}
	return nil
}

// backupFailure says what to do about a backup that did not become one.
func backupFailure(err error) error {
	var answer *client.Error
	if err == nil || errors.As(err, &answer) || errors.Is(err, client.ErrUnreachable) ||
		errors.Is(err, context.Canceled) {
		return err
	}
	return &failure{
		Exit: exitFailed, Code: "backup_failed", Message: err.Error(), Next: "nothing was kept: run the command again",
	}
}

// progress tells who types how far it is. It says nothing where nobody watches.
type progress struct {
	c     *cli
	what  string
	bytes int64
	shown time.Time
}

func (c *cli) progress(what string) *progress { return &progress{c: c, what: what, shown: time.Now()} }

func (p *progress) Write(b []byte) (int, error) {
	p.bytes += int64(len(b))
	if isTerminal(p.c.Err) && time.Since(p.shown) > time.Second/2 {
		p.shown = time.Now()
		_, _ = fmt.Fprintf(p.c.Err, "\r%d %s", p.bytes, p.what)
	}
	return len(b), nil
}

func (p *progress) end() {
	if isTerminal(p.c.Err) {
		_, _ = fmt.Fprint(p.c.Err, "\r\x1b[K")
	}
}

// chosenFile is the backup that is meant: a file, or an id in a directory.
func chosenFile(args []string, id, directory string) (string, error) {
	if (len(args) == 1) == (id != "") {
		return "", usagef("breakerctl backup verify FILE", "want a file, or --id and --destination")
	}
	if id == "" {
		return args[0], nil
	}
	if err := localDirectory(directory); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(directory, strings.TrimSuffix(id, backupExtension)+"*"+backupExtension))
	if err != nil || len(found) == 0 {
		return "", &failure{
			Exit: exitNotFound, Code: "not_found", Message: fmt.Sprintf("%s has no backup %s", directory, id),
			Next: "ls " + directory,
		}
	}
	return slices.Max(found), nil // the newest
}

// openBackup opens a backup, and verifies all of it.
func openBackup(name string) (*os.File, backupFile, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, backupFile{}, &failure{Exit: exitNotFound, Code: "not_found", Message: err.Error()}
	}
	shown := backupFile{File: name}
	shown.Backup, err = client.VerifyBackup(file)
	if err == nil {
		shown.Bytes, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		_ = file.Close()
		return nil, shown, &failure{
			Exit: exitFailed, Code: "backup_broken", Message: name + ": " + err.Error(), Next: "take an older one",
		}
	}
	return file, shown, nil
}

func (c *cli) backupVerify() *cobra.Command {
	var id, directory string
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "read a backup to its end; asks no server", Args: someArgs(0, 1, "one file"),
		Example: `  breakerctl backup verify backup-20260211-090000.jsonl.gz
  breakerctl backup verify --id backup-20260211-0900 --destination /var/backups`,
		RunE: func(_ *cobra.Command, args []string) error {
			name, err := chosenFile(args, id, directory)
			if err != nil {
				return err
			}
			file, shown, err := openBackup(name)
			if err != nil {
				return err
			}
			defer func() { _ = file.Close() }()
			return c.printBackup(shown)
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "how its name begins, in place of FILE")
	cmd.Flags().StringVar(&directory, "destination", ".", "the directory of --id")
	return cmd
}

func (c *cli) backupRestore() *cobra.Command {
	var id, directory string
	var q client.RestoreQuery
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "say what a backup would change, and put it back", Args: someArgs(0, 1, "one file"),
		Example: `  breakerctl backup restore backup-20260211-090000.jsonl.gz --dry-run
  breakerctl backup restore backup-20260211-090000.jsonl.gz --only holds
  breakerctl backup restore --id backup-20260211-0900 --destination /var/backups`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := chosenFile(args, id, directory)
			if err != nil {
				return err
			}
			return c.restoreBackup(cmd, name, q)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&id, "id", "", "how its name begins, in place of FILE")
	flags.StringVar(&directory, "destination", ".", "the directory of --id")
	flags.BoolVar(&q.DryRun, "dry-run", false, "only say what it would change")
	flags.StringSliceVar(&q.Only, "only", nil, "gate, overrides, profiles, holds, breakers, workflows, registry, audit")
	flags.BoolVar(&q.Overwrite, "overwrite", false, "also replace what is newer in Redis, or may be")
	flags.String("target", "", "of no effect: it is restored where the server's Redis is")
	_ = flags.MarkHidden("target")
	return cmd
}

func (c *cli) restoreBackup(cmd *cobra.Command, name string, q client.RestoreQuery) error {
	file, of, err := openBackup(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	to, err := c.client()
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("target") {
		c.tellf("--target has no effect: what is restored goes to the Redis of the server")
	}
	plan := q
	plan.DryRun = true
	would, err := to.RestoreBackup(cmd.Context(), file, of.Bytes, plan)
	if err != nil {
		return err
	}
	n := changes(would)
	if q.DryRun || n == 0 {
		return c.printRestored(would)
	}
	for _, row := range restoredRows(would) {
		c.tellf("%s", row[0]+": "+row[1]+" to create, "+row[2]+" to replace"+cmp.Or(" ("+row[6]+")", ""))
	}
	what := fmt.Sprintf("write %d records of the backup of %s into the fleet's Redis", n, of.TakenAt.Format(time.RFC3339))
	if err := c.change(scope{what: what, fleet: true}); err != nil {
		return err
	}
	c.tellf("restoring: if this is cut, run it again")
	done, err := to.RestoreBackup(cmd.Context(), file, of.Bytes, q)
	if err != nil {
		return err
	}
	return c.printRestored(done)
}

// changes is how many records are written.
func changes(r client.Restoration) (n int64) {
	for _, s := range r.Sections {
		n += s.Create + s.Replace
	}
	return n
}

// restoredRows are the sections of which the backup has something.
func restoredRows(r client.Restoration) (rows [][]string) {
	for _, s := range r.Sections {
		if s.Create+s.Replace+s.Same+s.Newer+s.Expired == 0 {
			continue
		}
		row := []string{s.Section}
		for _, n := range []int64{s.Create, s.Replace, s.Same, s.Newer, s.Expired} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		names := slices.Concat(s.Names["create"], s.Names["replace"])
		const most = 3
		if len(names) > most {
			names = append(names[:most:most], "…")
		}
		rows = append(rows, append(row, orDash(strings.Join(names, ", "))))
	}
	return rows
}

func (c *cli) printRestored(r client.Restoration) error {
	err := c.print(output{
		value: r, rows: restoredRows(r),
		head: []string{"SECTION", "CREATE", "REPLACE", "SAME", "NEWER", "EXPIRED", "WRITTEN"},
	})
	if err != nil {
		return err
	}
	if r.DryRun {
		c.tellf("nothing was written")
	}
	if r.Unfiled.Count > 0 {
		c.tellf("the agent registry's file of this server differs for %d agents (%s): a backup does not restore that file",
			r.Unfiled.Count, strings.Join(r.Unfiled.Names, ", "))
	}
	return nil
}

// stopAndDump stops the fleet, and then backs it up, so that nothing changes meanwhile.
func (c *cli) stopAndDump(cmd *cobra.Command, g gateChange, directory string) error {
	if err := localDirectory(directory); err != nil {
		return err
	}
	if err := c.setGate(cmd, g); err != nil {
		return err
	}
	if err := c.createBackup(cmd.Context(), directory, ""); err != nil {
		c.tellf("the fleet is stopped, and its state was not dumped")
		return err
	}
	return nil
}
