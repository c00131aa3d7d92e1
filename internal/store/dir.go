package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// layout is the version of what is on disk that this program writes and reads.
const layout = 1

// The names below Config.Dir.
const (
	identityName   = "store.json"
	lockName       = "lock"
	engineName     = "nats"
	checkpointName = "checkpoints"
)

// Why a data directory is not opened.
var (
	ErrLocked        = errors.New("the data directory is in use")
	ErrNewer         = errors.New("the data directory was written by a newer version")
	ErrMissingStream = errors.New("the data directory has lost records")
	ErrNotSynced     = errors.New("the store would not sync every write to disk")
)

// identity is what store.json says.
type identity struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Ready   bool   `json:"ready"` // all streams were made; from here on a missing one is a loss
}

// readIdentity returns what the directory says it is; the zero value if it says
// nothing.
func readIdentity(dir string) (id identity, err error) {
	b, err := os.ReadFile(filepath.Join(dir, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(b, &id); err != nil || id.ID == "" || id.Version < 1 {
		return id, fmt.Errorf("%w: %s does not say which store this is", ErrCorrupt, filepath.Join(dir, identityName))
	}
	if id.Version > layout {
		return id, fmt.Errorf("%w: %s has layout %d, this program knows %d", ErrNewer, dir, id.Version, layout)
	}
	return id, nil
}

func writeIdentity(dir string, id identity) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, identityName), append(b, '\n'))
}

// writeFile replaces a file at once: after a crash there is the old one or the new
// one, whole.
func writeFile(path string, body []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // best effort: the error that counts is err
		}
	}()
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) enginePath() string { return filepath.Join(s.cfg.Dir, engineName) }
