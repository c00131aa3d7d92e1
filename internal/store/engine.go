package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams.
const (
	streamRecords = "CTL"
	streamConfigs = "CFG"
	streamJournal = "AUD"
)

// requestTimeout bounds every single request to the engine; what did not answer
// within it has an unknown outcome.
const requestTimeout = 3 * time.Second

// engine is a NATS server inside this process, and our connection to it.
type engine struct {
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream

	records, configs, journal jetstream.Stream
}

// startEngine starts the server on its directory. It listens on no port.
func startEngine(dir string, logger *slog.Logger) (_ *engine, err error) {
	quiet := &engineLog{logger}
	srv, err := server.NewServer(&server.Options{
		ServerName: "bellwether",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   filepath.Join(dir, engineName),
		SyncAlways: true,
		// We keep nothing in memory streams, and the disk is the user's to watch.
		JetStreamMaxMemory: 64 << 20,
		JetStreamMaxStore:  1 << 40,
	})
	if err != nil {
		return nil, err
	}
	srv.SetLoggerV2(quiet, false, false, false)
	e := &engine{server: srv}
	defer func() {
		if err != nil {
			e.stop()
		}
	}()
	srv.Start()
	if !srv.ReadyForConnections(10*time.Second) || !srv.JetStreamEnabled() {
		return nil, fmt.Errorf("%w: the engine did not start", ErrCorrupt)
	}
	if err := mustSync(srv.JetStreamConfig()); err != nil {
		return nil, err
	}
	e.conn, err = nats.Connect("", nats.InProcessServer(srv), nats.Name("store"),
		nats.ReconnectBufSize(-1), // never keep a write for later: its outcome must be known
		nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.Timeout(requestTimeout))
	if err != nil {
		return nil, err
	}
	e.js, err = jetstream.New(e.conn, jetstream.WithDefaultTimeout(requestTimeout))
	return e, err
}

// mustSync refuses an engine that acknowledges what a power cut would take back.
func mustSync(cfg *server.JetStreamConfig) error {
	if cfg == nil || !cfg.SyncAlways {
		return ErrNotSynced
	}
	return nil
}

func (e *engine) stop() {
	if e.conn != nil {
		e.conn.Close()
	}
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// layOut returns what each stream must be.
func layOut(cfg Config) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{{
		Name: streamRecords, Subjects: []string{"ctl.>"}, Storage: jetstream.FileStorage, Replicas: 1,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, AllowAtomicPublish: true, AllowDirect: false,
	}, {
		Name: streamConfigs, Subjects: []string{"cfg.>"}, Storage: jetstream.FileStorage, Replicas: 1,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, AllowDirect: false,
	}, {
		Name: streamJournal, Subjects: []string{subjectJournal}, Storage: jetstream.FileStorage, Replicas: 1,
		MaxBytes: cfg.JournalBytes, MaxAge: cfg.JournalAge, Discard: jetstream.DiscardOld, AllowDirect: false,
	}}
}

// streams finds the streams, or makes them when the directory is being initialised.
func (e *engine) streams(ctx context.Context, cfg Config, initialise bool) error {
	into := []*jetstream.Stream{&e.records, &e.configs, &e.journal}
	for i, want := range layOut(cfg) {
		got, err := e.js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound) && initialise:
			got, err = e.js.CreateStream(ctx, want)
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return fmt.Errorf("%w: stream %s is not there; restore the directory from a copy", ErrMissingStream, want.Name)
		case err == nil && want.Name == streamJournal:
			if have := got.CachedInfo().Config; have.MaxBytes != want.MaxBytes || have.MaxAge != want.MaxAge {
				got, err = e.js.UpdateStream(ctx, want)
			}
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		*into[i] = got
	}
	return nil
}

// engineLog takes what the engine says: quietly, unless it is about something
// that is wrong.
type engineLog struct{ log *slog.Logger }

func (l *engineLog) say(level slog.Level, format string, args []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "engine", "text", fmt.Sprintf(format, args...))
	}
}

// Noticef implements [server.Logger].
func (l *engineLog) Noticef(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

// Warnf implements [server.Logger].
func (l *engineLog) Warnf(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

// Errorf implements [server.Logger].
func (l *engineLog) Errorf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Fatalf implements [server.Logger]. The process goes on: [startEngine] finds out.
func (l *engineLog) Fatalf(format string, args ...any) { l.say(slog.LevelError, format, args) }

// Debugf implements [server.Logger].
func (l *engineLog) Debugf(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

// Tracef implements [server.Logger].
func (l *engineLog) Tracef(string, ...any) {}
