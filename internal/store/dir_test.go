package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/store/storetest"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

func refuses(t *testing.T, dir string, want error) error {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir})
	if err == nil {
		defer s.Close()
	}
	if !errors.Is(err, want) {
		t.Fatalf("open: %v, want %v", err, want)
	}
	return err
}

func TestLocked(t *testing.T) {
	s, _, _ := fixture(t, 1)
	err := refuses(t, s.cfg.Dir, ErrLocked)
	if !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%q does not name process %d", err, os.Getpid())
	}
}

// closed returns a directory with some records in it.
func closed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := openStore(t, dir)
	term := campaign(t, s)
	must(t, term.Commit(t.Context(), stateOf(storetest.Rollout("edge", 100))))
	must(t, term.Commit(t.Context(), stateOf(storetest.Offered(storetest.Rollout("edge", 100), storetest.Epoch(), 1))))
	must(t, s.Close())
	return dir
}

func TestNewerLayout(t *testing.T) {
	dir := closed(t)
	id, err := readIdentity(dir)
	must(t, err)
	id.Version = layout + 1
	must(t, writeIdentity(dir, id))
	_ = refuses(t, dir, ErrNewer)
}

func TestLostIdentity(t *testing.T) {
	dir := closed(t)
	must(t, os.Remove(filepath.Join(dir, identityName)))
	_ = refuses(t, dir, ErrCorrupt)
	must(t, os.WriteFile(filepath.Join(dir, identityName), []byte(`{"version":1,"id":"another","ready":true}`), 0o600))
	_ = refuses(t, dir, ErrCorrupt)
	must(t, os.WriteFile(filepath.Join(dir, identityName), []byte(`{"ver`), 0o600))
	_ = refuses(t, dir, ErrCorrupt)
}

// TestMissingStream: a stream of an initialised directory that is not there is
// never made anew, whether its folder or only its description is gone.
func TestMissingStream(t *testing.T) {
	for _, stream := range []string{streamRecords, streamConfigs, streamJournal} {
		for _, file := range []string{"", "meta.inf"} {
			dir := closed(t)
			must(t, os.RemoveAll(filepath.Join(dir, engineName, "jetstream", "$G", "streams", stream, file)))
			_ = refuses(t, dir, ErrMissingStream)
			_ = refuses(t, dir, ErrMissingStream) // nor by the refusal itself
		}
	}
	dir := closed(t)
	must(t, os.RemoveAll(filepath.Join(dir, engineName)))
	_ = refuses(t, dir, ErrMissingStream)
}

// TestFlippedMeta: a bit that flips in the description of the stream makes the
// engine lose all of it; we notice.
func TestFlippedMeta(t *testing.T) {
	dir := closed(t)
	flip(t, filepath.Join(dir, engineName, "jetstream", "$G", "streams", streamRecords, "meta.inf"), 0.5)
	_ = refuses(t, dir, ErrMissingStream)
}

func flip(t *testing.T, file string, at float64) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	b[int(float64(len(b))*at)] ^= 4
	must(t, os.WriteFile(file, b, 0o600))
}

// TestFlippedBit: wherever a bit flips in the records, with or without the
// engine's index, either nothing is lost or we refuse.
func TestFlippedBit(t *testing.T) {
	dir := closed(t)
	blocks, err := filepath.Glob(filepath.Join(dir, engineName, "jetstream", "$G", "streams", streamRecords, "msgs", "*.blk"))
	must(t, err)
	if len(blocks) == 0 {
		t.Fatal("no file holds the records")
	}
	clean, err := os.ReadFile(blocks[0])
	must(t, err)
	want := stateOf(storetest.Offered(storetest.Rollout("edge", 100), storetest.Epoch(), 1))
	refused := 0
	const trials = 24
	for i := range trials {
		copied := t.TempDir()
		must(t, os.CopyFS(copied, os.DirFS(dir)))
		rel, err := filepath.Rel(dir, blocks[0])
		must(t, err)
		broken := bytes.Clone(clean)
		broken[len(clean)*(2*i+1)/(2*trials)] ^= 1 << (i % 8)
		must(t, os.WriteFile(filepath.Join(copied, rel), broken, 0o600))
		if i%2 == 0 { // as after a crash
			if err := os.Remove(filepath.Join(filepath.Dir(filepath.Join(copied, rel)), "index.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		s, err := Open(t.Context(), Config{Dir: copied})
		if err != nil {
			refused++
			continue
		}
		got, err := s.Load(t.Context())
		if err != nil {
			refused++
		} else if !storetest.Equal(want, got) {
			t.Errorf("trial %d: a flipped bit went unnoticed", i)
		}
		must(t, s.Close())
	}
	t.Logf("%d of %d refused", refused, trials)
	if refused == 0 {
		t.Error("nothing was refused: the test hits nothing")
	}
}

// TestDamage: what each guard is for.
func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, s *Store){
		"a record with a wrong checksum": func(t *testing.T, s *Store) {
			m := newMessage(prefixRoll+"edge", []byte(`{"name":"edge"}`))
			m.sealed[sealSize+3] ^= 1
			write(t, s, m)
		},
		"a record under another's subject": func(t *testing.T, s *Store) {
			raw, err := s.engine.records.GetLastMsgForSubject(t.Context(), prefixRoll+"edge")
			must(t, err)
			write(t, s, message{prefixRoll + "core", raw.Data})
		},
		"a record that no commit wrote": func(t *testing.T, s *Store) {
			write(t, s, newMessage(prefixRoll+"edge", []byte(`{"name":"edge","wave":0,"phase":0,"target_revision":{},"stable_revision":{}}`)))
		},
		"a part of the ledger that is gone": func(t *testing.T, s *Store) {
			must(t, s.engine.records.Purge(t.Context(), jetstream.WithPurgeSubject("ctl.base.edge.>")))
		},
		"a delta that is gone": func(t *testing.T, s *Store) {
			must(t, s.engine.records.Purge(t.Context(), jetstream.WithPurgeSubject("ctl.delta.edge.>")))
		},
		"a rollout that is gone": func(t *testing.T, s *Store) {
			must(t, s.engine.records.Purge(t.Context(), jetstream.WithPurgeSubject("ctl.*.edge.>")))
			must(t, s.engine.records.Purge(t.Context(), jetstream.WithPurgeSubject("ctl.*.edge")))
		},
		"a manifest that is gone": func(t *testing.T, s *Store) {
			must(t, s.engine.records.Purge(t.Context(), jetstream.WithPurgeSubject(subjectManifest)))
		},
		"a commit that is torn": func(t *testing.T, s *Store) {
			write(t, s, newMessage(subjectTxn, []byte(`{"id":"half"}`)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, term, edge := fixture(t, 100)
			must(t, term.Commit(t.Context(), stateOf(storetest.Offered(edge, storetest.Epoch(), 1))))
			damage(t, s)
			if _, err := s.Load(t.Context()); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("load: %v, want ErrCorrupt", err)
			}
		})
	}
}

func write(t *testing.T, s *Store, m message) {
	t.Helper()
	_, err := s.engine.request(t.Context(), m, nil)
	must(t, err)
}

// TestCount: fewer keys that can be read than the engine says it has are noticed.
func TestCount(t *testing.T) {
	if err := countKeys(17, 18, 18); !errors.Is(err, ErrCorrupt) {
		t.Errorf("17 of 18: %v", err)
	}
	if err := countKeys(18, 19, 18); !errors.Is(err, ErrCorrupt) {
		t.Errorf("two messages under one subject: %v", err)
	}
	must(t, countKeys(18, 18, 18))
}

// TestSetup: the settings that durability and fencing stand on.
func TestSetup(t *testing.T) {
	if err := mustSync(&server.JetStreamConfig{}); !errors.Is(err, ErrNotSynced) {
		t.Errorf("an engine that does not sync: %v", err)
	}
	registry := prometheus.NewRegistry()
	dir := filepath.Join(t.TempDir(), "new")
	s, err := Open(t.Context(), Config{Dir: dir, Registerer: registry})
	must(t, err)
	defer s.Close()
	if !s.engine.server.JetStreamConfig().SyncAlways {
		t.Error("SyncAlways is off")
	}
	if n := s.engine.conn.Opts.ReconnectBufSize; n != -1 {
		t.Errorf("the client buffers %d bytes while it is not connected", n)
	}
	if addr := s.engine.server.Addr(); addr != nil {
		t.Errorf("the engine listens on %v", addr)
	}
	c := s.engine.records.CachedInfo().Config
	if c.AllowDirect || !c.AllowAtomicPublish || c.MaxMsgsPerSubject != 1 || c.Discard != jetstream.DiscardNew ||
		c.Storage != jetstream.FileStorage || c.AllowMsgTTL || c.MaxAge != 0 {
		t.Errorf("the stream of the records is %+v", c)
	}
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
	families, err := registry.Gather()
	must(t, err)
	got := map[string]int{}
	for _, f := range families {
		got[f.GetName()] = len(f.GetMetric())
	}
	ops := len(operations())
	if got["bellwether_store_operation_duration_seconds"] != ops || got["bellwether_store_errors_total"] != ops || got["bellwether_store_size_bytes"] != 1 {
		t.Errorf("metrics: %v", got)
	}
}

// TestCheckpoints: one for each transition, the newest are kept, and a damaged one
// is refused.
func TestCheckpoints(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Dir: dir, Checkpoints: 3})
	must(t, err)
	term := campaign(t, s)
	want := stateOf(storetest.Rollout("edge", 300))
	must(t, term.Commit(t.Context(), want))
	m := s.latest.Load()
	for i := range 5 {
		later := *m
		later.revision += uint64(i)
		must(t, s.writeCheckpoint(&later))
	}
	must(t, s.Close())
	s = openStore(t, dir)
	defer s.Close()
	files, err := s.Checkpoints()
	must(t, err)
	if len(files) != 3 {
		t.Fatalf("checkpoints: %v", files)
	}
	got, err := ReadCheckpoint(files[2])
	must(t, err)
	storetest.Expect(t, "checkpoint", want, got)
	for _, at := range []float64{0, 0.1, 0.5, 0.999} {
		flip(t, files[1], at)
		if _, err := ReadCheckpoint(files[1]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a bit flipped at %v: %v", at, err)
		}
		flip(t, files[1], at)
	}
	empty, err := packCheckpoint(storetest.State(time.Time{}))
	must(t, err)
	must(t, os.WriteFile(files[0], empty, 0o600))
	got, err = ReadCheckpoint(files[0])
	must(t, err)
	storetest.Expect(t, "empty checkpoint", storetest.State(time.Time{}), got)
}
