package ctl

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// contextsFile is ~/.config/breakerctl/config.yaml.
type contextsFile struct {
	Current  string         `yaml:"current,omitempty"`
	Contexts []contextEntry `yaml:"contexts"`
}

// contextEntry is one fleet, and the way to it.
type contextEntry struct {
	Name      string   `json:"name"                 yaml:"name"`
	Servers   []string `json:"servers"              yaml:"servers"`
	TokenFile string   `json:"token_file,omitempty" yaml:"token_file,omitempty"`
	CAFile    string   `json:"ca_file,omitempty"    yaml:"ca_file,omitempty"`
	CertFile  string   `json:"cert_file,omitempty"  yaml:"cert_file,omitempty"`
	KeyFile   string   `json:"key_file,omitempty"   yaml:"key_file,omitempty"`
	Actor     string   `json:"actor,omitempty"      yaml:"actor,omitempty"`
	ReadOnly  bool     `json:"read_only,omitempty"  yaml:"read_only,omitempty"` // changes are refused
	Confirm   string   `json:"confirm,omitempty"    yaml:"confirm,omitempty"`   // always: every change asks
}

func (f *contextsFile) find(name string) *contextEntry {
	for i := range f.Contexts {
		if f.Contexts[i].Name == name {
			return &f.Contexts[i]
		}
	}
	return nil
}

func (c *cli) contextsPath() string {
	home := cmp.Or(c.env["XDG_CONFIG_HOME"], filepath.Join(c.env["HOME"], ".config"))
	return cmp.Or(c.env["BREAKERCTL_CONFIG"], filepath.Join(home, "breakerctl", "config.yaml"))
}

// readContexts gives an empty file where there is none.
func (c *cli) readContexts() (*contextsFile, error) {
	path := c.contextsPath()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &contextsFile{}, nil
	case err != nil:
		return nil, usagef("", "the contexts cannot be read: %v", err)
	case info.Mode().Perm()&0o077 != 0:
		return nil, usagef("chmod 600 "+path, "others may read or change %s (mode %04o)", path, info.Mode().Perm())
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("", "the contexts cannot be read: %v", err)
	}
	var file contextsFile
	in := yaml.NewDecoder(bytes.NewReader(body))
	in.KnownFields(true)
	if err := in.Decode(&file); err != nil && len(bytes.TrimSpace(body)) > 0 {
		return nil, usagef("breakerctl context set --help", "%s: %v", path, err)
	}
	for _, entry := range file.Contexts {
		if entry.Confirm != "" && entry.Confirm != "always" {
			return nil, usagef("breakerctl context set --help", "%s: context %s: confirm is always or absent, not %q",
				path, entry.Name, entry.Confirm)
		}
	}
	return &file, nil
}

// writeContexts replaces the file, so that a reader sees the old one or the new one.
func (c *cli) writeContexts(file *contextsFile) error {
	path := c.contextsPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	body, err := yaml.Marshal(file)
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), ".config-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = fresh.Write(body)
	if err = errors.Join(err, fresh.Close()); err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		_ = os.Remove(fresh.Name())
		return fmt.Errorf("the contexts are not saved: %w", err)
	}
	return nil
}
