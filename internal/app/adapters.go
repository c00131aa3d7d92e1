package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/gitsource"
	"github.com/bellwether-opamp/bellwether/internal/controller"
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/store"
	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// records lets the controller write through a term of the store.
type records struct{ term *store.Term }

func (r records) Commit(ctx context.Context, next reconciler.State) error {
	return deposed(r.term.Commit(ctx, next))
}

func (r records) Beat(ctx context.Context, now time.Time) error {
	return deposed(r.term.Beat(ctx, now))
}

// deposed says in the controller's word that another process took over.
func deposed(err error) error {
	if errors.Is(err, store.ErrDeposed) {
		return controller.ErrDeposed
	}
	return err
}

// shown lets the API look at the controller.
type shown struct{ controller *controller.Controller }

func (s shown) Overview(ctx context.Context) (o web.Overview, err error) {
	err = s.controller.Query(ctx, func(v controller.View) {
		o = web.Overview{Status: v.Status(), Source: v.Source(), Revisions: slices.Clone(v.Revisions()), Problem: v.Problem()}
	})
	return o, err
}

func (s shown) EachAgent(ctx context.Context, look func(*fleet.Agent, reconciler.AgentStatus)) error {
	return s.controller.Query(ctx, func(v controller.View) {
		for a, st := range v.Agents() {
			look(a, st)
		}
	})
}

func (s shown) Command(ctx context.Context, i reconciler.Intent) (rollout.Answer, error) {
	return s.controller.Command(ctx, i)
}

// ReadDir reads a fleet repository from a directory as it is now, committed or
// not: what `validate` checks.
func ReadDir(ctx context.Context, dir, path string) (fleet.Snapshot, error) {
	return gitsource.ReadDir(ctx, dir, path)
}

// journal writes what happened to the store in the background: it only tells, so
// it may lag, and when the store is slow the oldest lines wait, bounded.
type journal struct {
	store *store.Store
	log   *slog.Logger
	lines chan []controller.Entry
}

func newJournal(s *store.Store, log *slog.Logger) *journal {
	return &journal{store: s, log: log, lines: make(chan []controller.Entry, 1024)}
}

// add never blocks; when the queue is full the lines are in the log only.
func (j *journal) add(entries []controller.Entry) {
	select {
	case j.lines <- entries:
	default:
		j.log.Warn("journal is behind, lines are in this log only", "count", len(entries))
	}
}

func (j *journal) run(ctx context.Context) error {
	for {
		select {
		case entries := <-j.lines:
			j.write(ctx, entries)
		case <-ctx.Done():
			return j.drain(context.WithoutCancel(ctx))
		}
	}
}

// drain writes what is left when everybody who adds has stopped.
func (j *journal) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		select {
		case entries := <-j.lines:
			j.write(ctx, entries)
		default:
			return nil
		}
	}
}

func (j *journal) write(ctx context.Context, entries []controller.Entry) {
	lines := make([][]byte, 0, len(entries))
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			j.log.Error("journal line not encodable", "err", err)
			continue
		}
		lines = append(lines, line)
	}
	if err := j.store.Journal(ctx, lines); err != nil && ctx.Err() == nil {
		j.log.Warn("journal not written", "count", len(lines), "err", err)
	}
}
