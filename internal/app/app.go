// Package app wires everything by hand: it reads a Config, opens what has to be
// opened in order, runs it, and closes it in the opposite order.
package app

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/gitsource"
	"github.com/bellwether-opamp/bellwether/internal/controller"
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/store"
	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/opampsrv"
	"github.com/prometheus/client_golang/prometheus"
)

// Surface is one of the addresses a running server listens on.
type Surface string

// The surfaces.
const (
	OpAMP Surface = "opamp"
	HTTP  Surface = "http"
	Admin Surface = "admin"
)

// App is a server that has started: every listener is open, the records are
// loaded. Make one with [Start], then call Run exactly once.
type App struct {
	cfg       Config
	log       *slog.Logger
	registry  *prometheus.Registry
	listeners map[Surface]net.Listener

	store      *store.Store
	term       *store.Term
	journal    *journal
	source     *gitsource.Source
	cache      gitsource.Cache
	opamp      *opampsrv.Server
	controller *controller.Controller
	api        http.Handler
	admin      http.Handler
	initial    *fleet.Snapshot // last good one, from disk
}

// Start checks the configuration and opens everything that can fail to open. Its
// error is one line for the person who started the server; nothing is left open.
func Start(ctx context.Context, cfg Config) (*App, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	a := &App{cfg: cfg, log: cfg.Logger, registry: newRegistry(cfg), listeners: map[Surface]net.Listener{}}
	steps := []func(context.Context) error{a.openSource, a.openStore, a.openController, a.openWeb, a.listen}
	for _, open := range steps {
		if err := open(ctx); err != nil {
			a.Close()
			return nil, err
		}
	}
	return a, nil
}

func (a *App) openSource(context.Context) error {
	var err error
	a.source, err = gitsource.New(gitsource.Config{
		URL: a.cfg.Git, Branch: a.cfg.GitBranch, Path: a.cfg.GitPath, Poll: a.cfg.Poll,
		Username: a.cfg.GitUsername, PasswordFile: a.cfg.GitPasswordFile, TokenFile: a.cfg.GitTokenFile,
		SSHKeyFile: a.cfg.GitSSHKeyFile, SSHKeyPassphraseFile: a.cfg.GitSSHPassphrase, KnownHostsFile: a.cfg.GitKnownHosts,
		CAFile: a.cfg.GitCAFile,
		Logger: a.log, Registerer: a.registry, OnUpdate: a.onUpdate,
	})
	return err
}

func (a *App) onUpdate(u gitsource.Update) {
	a.controller.Source(u.Status)
	if u.Snapshot != nil {
		a.controller.Snapshot(*u.Snapshot)
	}
}

func (a *App) openStore(ctx context.Context) (err error) {
	a.store, err = store.Open(ctx, store.Config{Dir: filepath.Join(a.cfg.DataDir, "store"), Logger: a.log, Registerer: a.registry})
	if err != nil {
		return err
	}
	if a.term, err = a.store.Campaign(ctx); err != nil {
		return err
	}
	a.cache = gitsource.Cache{Dir: filepath.Join(a.cfg.DataDir, "git")}
	snapshot, ok, err := a.cache.Load()
	switch {
	case err != nil: // a cache: the repository will tell
		a.log.Warn("last good snapshot not readable, waiting for the repository", "err", err)
	case ok:
		a.initial = &snapshot
	}
	return nil
}

func (a *App) openController(ctx context.Context) error {
	initial, err := a.store.Load(ctx)
	if err != nil {
		return err
	}
	observed, err := a.store.Watch(context.WithoutCancel(ctx)) // until the store is closed: the controller outlives ctx
	if err != nil {
		return err
	}
	agentToken, err := readToken("--agent-token-file", a.cfg.AgentTokenFile)
	if err != nil {
		return err
	}
	a.opamp, err = opampsrv.New(opampsrv.Config{
		OnReport:     func(r fleet.Report) { a.controller.Report(r) },
		Authenticate: bearer(agentToken), Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return err
	}
	a.journal = newJournal(a.store, a.log)
	a.controller, err = controller.New(controller.Config{
		Records: records{a.term}, Configs: a.store, Offerer: a.opamp,
		Initial: initial, Observed: observed, Journal: a.journal.add, Accepted: a.saveSnapshot,
		AllowEmpty: a.cfg.AllowEmpty, Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return err
	}
	return a.controller.Load(ctx)
}

// saveSnapshot keeps the last good snapshot, so that a restart with the forge
// down still has a desired state.
func (a *App) saveSnapshot(s fleet.Snapshot) {
	if err := a.cache.Save(s); err != nil {
		a.log.Error("last good snapshot not saved", "revision", s.Revision.Short(), "err", err)
	}
}

// bearer returns what decides whether an agent may connect; nil lets everybody.
func bearer(token string) func(*http.Request) error {
	if token == "" {
		return nil
	}
	return func(r *http.Request) error {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			return errors.New("no valid bearer token")
		}
		return nil
	}
}

func (a *App) openWeb(context.Context) error {
	token, err := readToken("--api-token-file", a.cfg.APITokenFile)
	if err != nil {
		return err
	}
	a.api, err = web.New(web.Config{
		Fleet: shown{a.controller}, Sync: a.source.Poke, Version: a.cfg.Version, Token: token,
		Logger: a.log, Registerer: a.registry,
	})
	if err != nil {
		return err
	}
	a.admin = web.Admin(a.registry, a.ready)
	return nil
}

// ready says nil while plans can be made durable.
func (a *App) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	problem := ""
	if err := a.controller.Query(ctx, func(v controller.View) { problem = v.Problem() }); err != nil {
		return errors.New("the controller does not answer")
	}
	if problem != "" {
		return fmt.Errorf("records cannot be written: %s", problem)
	}
	return nil
}

func (a *App) listen(ctx context.Context) error {
	for _, l := range []struct {
		surface       Surface
		flag, address string
	}{
		{OpAMP, "--listen-opamp", a.cfg.ListenOpAMP},
		{HTTP, "--listen-http", a.cfg.ListenHTTP},
		{Admin, "--listen-admin", a.cfg.ListenAdmin},
	} {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.address)
		if err != nil {
			return fmt.Errorf("%s: %w", l.flag, err)
		}
		a.listeners[l.surface] = ln
		a.log.Info("listening", "surface", string(l.surface), "addr", ln.Addr().String())
	}
	return nil
}

// Addr returns the address of a surface, with the port that was given to it.
func (a *App) Addr(s Surface) string { return a.listeners[s].Addr().String() }

// Close releases what Start opened. Run calls it at its end; call it instead of Run
// to give up a server that was only started.
func (a *App) Close() {
	for _, ln := range a.listeners {
		_ = ln.Close()
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Warn("store not closed cleanly", "err", err)
		}
	}
}
