package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Run serves until ctx is done or something that must not stop has stopped. It
// shuts down in order: no new work from git and people, then the agents, then the
// owner of the state, the journal, the store.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	outer, stopOuter := context.WithCancelCause(ctx) // git, API, agents
	defer stopOuter(nil)
	inner, stopInner := context.WithCancel(context.WithoutCancel(ctx)) // controller
	defer stopInner()
	last, stopLast := context.WithCancel(context.WithoutCancel(ctx)) // journal
	defer stopLast()

	var surfaces, core, records sync.WaitGroup
	start := func(group *sync.WaitGroup, ctx context.Context, name string, run func(context.Context) error) {
		group.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				stopOuter(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	if a.initial != nil {
		a.controller.Snapshot(*a.initial)
	}
	start(&core, inner, "controller", a.controller.Run)
	start(&records, last, "journal", a.journal.run)
	start(&surfaces, outer, "opamp", func(ctx context.Context) error { return a.opamp.Serve(ctx, a.listeners[OpAMP]) })
	start(&surfaces, outer, "api", func(ctx context.Context) error { return serveHTTP(ctx, a.listeners[HTTP], a.api) })
	start(&surfaces, outer, "admin", func(ctx context.Context) error { return serveHTTP(ctx, a.listeners[Admin], a.admin) })
	start(&surfaces, outer, "git", a.source.Run)

	<-outer.Done()
	a.log.Info("stopping")
	surfaces.Wait()
	stopInner()
	core.Wait()
	stopLast()
	records.Wait()
	if cause := context.Cause(outer); ctx.Err() == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// serveHTTP serves until ctx is done, then lets requests finish for a moment.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 60 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	stop := context.AfterFunc(ctx, func() {
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if srv.Shutdown(shutdown) != nil {
			_ = srv.Close()
		}
	})
	defer stop()
	err := srv.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
