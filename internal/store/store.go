package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// Config is what a Store needs. Only Dir is required.
type Config struct {
	Dir          string        // of the store alone; made if it is not there
	JournalBytes int64         // the journal forgets its oldest entries beyond this (64 MiB)
	JournalAge   time.Duration // and those older than this (90 days)
	Checkpoints  int           // how many are kept (10)
	Logger       *slog.Logger  // nil discards
	Registerer   Registerer    // nil registers nowhere
}

func (c *Config) setDefaults() error {
	if c.Dir == "" {
		return errors.New("store: Dir is required")
	}
	if c.JournalBytes == 0 {
		c.JournalBytes = 64 << 20
	}
	if c.JournalAge == 0 {
		c.JournalAge = 90 * 24 * time.Hour
	}
	if c.Checkpoints == 0 {
		c.Checkpoints = 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Store is an open data directory. All methods are safe for concurrent use.
type Store struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	id      string
	lock    *os.File
	engine  *engine
	reached *os.File

	latest atomic.Pointer[mirror] // newest records known to be stored; saves reading them again

	mu    sync.Mutex          // guards known and left
	known map[fleet.Hash]bool // configs that are whole on disk
	left  []refuse            // found by the last full read

	toKeep chan *mirror // capacity 1: the newest records to be checkpointed
	done   context.Context
	end    context.CancelFunc // ends done, and with it the tasks
	tasks  sync.WaitGroup     // everything started here
}

// Open opens the data directory, and makes it if there is none. Errors are
// [ErrLocked], [ErrNewer], [ErrMissingStream], [ErrCorrupt], [ErrNotSynced] or the
// system's. The Store must be closed.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, log: cfg.Logger, known: map[fleet.Hash]bool{}, toKeep: make(chan *mirror, 1)}
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store in %s: %w", cfg.Dir, err), s.release())
	}
	s.done, s.end = context.WithCancel(context.Background())
	s.metrics = newMetrics(cfg.Registerer, s.sizeBytes)
	s.tasks.Go(s.checkpoints)
	return s, nil
}

// start brings up the engine and makes sure that it holds the store that the
// directory says it does.
func (s *Store) start(ctx context.Context) (err error) {
	id, err := readIdentity(s.cfg.Dir)
	if err != nil {
		return err
	}
	if id.ID == "" {
		if _, err := os.Stat(s.enginePath()); err == nil {
			return fmt.Errorf("%w: there are records, but %s is gone", ErrCorrupt, identityName)
		}
		id = identity{Version: layout, ID: rand.Text()}
		if err := writeIdentity(s.cfg.Dir, id); err != nil {
			return err
		}
	}
	s.id = id.ID
	if s.reached, err = openReached(s.cfg.Dir); err != nil {
		return err
	}
	if s.engine, err = startEngine(s.cfg.Dir, s.log); err != nil {
		return err
	}
	if err := s.engine.streams(ctx, s.cfg, !id.Ready); err != nil {
		return err
	}
	if err := s.identify(ctx, !id.Ready); err != nil {
		return err
	}
	if id.Ready {
		return nil
	}
	id.Ready = true
	return writeIdentity(s.cfg.Dir, id)
}

// identify compares the id in the records with that of the directory.
func (s *Store) identify(ctx context.Context, initialise bool) error {
	raw, err := s.engine.records.GetLastMsgForSubject(ctx, subjectID)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		if !initialise {
			return fmt.Errorf("%w: the records do not say which store they are of", ErrMissingStream)
		}
		_, err := s.engine.request(ctx, newMessage(subjectID, []byte(s.id)), nil)
		return err
	}
	if err != nil {
		return err
	}
	body, err := unseal(subjectID, raw.Data)
	if err != nil {
		return err
	}
	if string(body) != s.id {
		return fmt.Errorf("%w: the records are of store %s, the directory is of %s", ErrCorrupt, body, s.id)
	}
	return nil
}

// Close ends everything the store started and gives the directory free. Whoever
// still uses the store gets errors.
func (s *Store) Close() error {
	s.end()
	s.tasks.Wait()
	return s.release()
}

// release ends what start began, and gives the directory free last.
func (s *Store) release() error {
	var errs []error
	if s.engine != nil {
		s.engine.stop()
	}
	if s.reached != nil {
		errs = append(errs, s.reached.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

func (s *Store) sizeBytes() float64 {
	info, err := s.engine.server.Jsz(&server.JSzOptions{})
	if err != nil {
		return 0
	}
	return float64(info.Store)
}
