package controller

import (
	"context"
	"slices"
	"sync"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// maxReports bounds the reports that wait for a tick. Beyond it the connections
// wait, and with them their agents: memory is bounded by back pressure.
const maxReports = 1 << 16

// inbox is where everybody else leaves things for the owner. Reports keep their
// order; of several revisions only the newest matters.
type inbox struct {
	wake chan struct{} // capacity 1: there is something

	mu       sync.Mutex // guards everything below
	room     sync.Cond  // signalled when reports were taken, or on close
	reports  []fleet.Report
	source   *fleet.SourceStatus
	revision *revision
	intents  []request
	queries  []*query
	closed   bool
}

// revision is a commit that was parsed, well or not.
type revision struct {
	snapshot fleet.Snapshot
	set      *manifest.Set // nil: rejected
	problems []manifest.Problem
}

type request struct {
	intent reconciler.Intent
	answer chan rollout.Answer // capacity 1
	gone   <-chan struct{}     // closed when nobody waits for the answer any more
}

// abandoned reports whether nobody waits for the answer any more.
func (r request) abandoned() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

type query struct {
	look func(View)
	done chan error // capacity 1
}

func newInbox() *inbox {
	b := &inbox{wake: make(chan struct{}, 1)}
	b.room.L = &b.mu
	return b
}

// put changes the inbox under its lock and wakes the owner.
func (b *inbox) put(change func()) bool {
	b.mu.Lock()
	ok := !b.closed
	if ok {
		change()
	}
	b.mu.Unlock()
	b.nudge()
	return ok
}

// nudge wakes the owner: many calls, at least one tick.
func (b *inbox) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) report(r fleet.Report) {
	b.mu.Lock()
	for len(b.reports) >= maxReports && !b.closed {
		b.room.Wait()
	}
	b.mu.Unlock()
	b.put(func() { b.reports = append(b.reports, r) })
}

// letters is what take found.
type letters struct {
	reports  []fleet.Report
	source   *fleet.SourceStatus
	revision *revision
	intents  []request
}

func (b *inbox) take() letters {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := letters{b.reports, b.source, b.revision, slices.DeleteFunc(b.intents, request.abandoned)}
	b.reports, b.source, b.revision, b.intents = nil, nil, nil, nil
	b.room.Broadcast()
	return l
}

func (b *inbox) takeQueries() []*query {
	b.mu.Lock()
	defer b.mu.Unlock()
	queries := b.queries
	b.queries = nil
	return queries
}

// pending reports whether there is something for a tick.
func (b *inbox) pending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.reports)+len(b.intents) > 0 || b.source != nil || b.revision != nil
}

// urgent reports whether something waits that there is never much of, and that
// somebody waits for: a revision or an intent.
func (b *inbox) urgent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.intents) > 0 || b.revision != nil
}

// close frees everybody who waits; what is left unread is dropped.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.room.Broadcast()
	for _, r := range b.intents {
		close(r.answer)
	}
	b.intents = nil
	for _, q := range b.queries {
		q.done <- context.Canceled
	}
	b.queries = nil
}

// withdraw takes a query back, unless the owner has it already.
func (b *inbox) withdraw(q *query) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.queries, q)
	if i < 0 {
		return false
	}
	b.queries = slices.Delete(b.queries, i, i+1)
	return true
}

// Report takes what an agent said. Reports of one agent must come in order. It
// blocks only when the controller is far behind. Safe for concurrent use.
func (c *Controller) Report(r fleet.Report) { c.inbox.report(r) }

// Source takes what became of the last look at the remote, for people. Safe for
// concurrent use.
func (c *Controller) Source(s fleet.SourceStatus) {
	c.inbox.put(func() { c.inbox.source = &s })
}

// Snapshot takes a revision loaded whole: it is parsed here, on the caller's
// goroutine, and judged in the next tick. Of several the newest wins. Safe for
// concurrent use.
func (c *Controller) Snapshot(s fleet.Snapshot) {
	set, problems := manifest.Parse(s, manifest.Options{AllowEmpty: c.cfg.AllowEmpty})
	c.inbox.put(func() { c.inbox.revision = &revision{s, set, problems} })
}

// Command asks for something in a person's name and waits for the answer, which
// is given once it is durable. After an error it may have been done, or not; it is
// not tried any more. Safe for concurrent use.
func (c *Controller) Command(ctx context.Context, i reconciler.Intent) (rollout.Answer, error) {
	r := request{i, make(chan rollout.Answer, 1), ctx.Done()}
	if !c.inbox.put(func() { c.inbox.intents = append(c.inbox.intents, r) }) {
		return rollout.Answer{}, context.Canceled
	}
	select {
	case a, ok := <-r.answer:
		if !ok {
			return a, context.Canceled
		}
		return a, nil
	case <-ctx.Done():
		return rollout.Answer{}, ctx.Err()
	}
}

// Query runs look on the owner's goroutine between two ticks and waits for it. It
// must be quick, change nothing and keep nothing of the view; it does not run after
// Query has returned. Safe for concurrent use.
func (c *Controller) Query(ctx context.Context, look func(View)) error {
	q := &query{look, make(chan error, 1)}
	if !c.inbox.put(func() { c.inbox.queries = append(c.inbox.queries, q) }) {
		return context.Canceled
	}
	select {
	case err := <-q.done:
		return err
	case <-ctx.Done():
	}
	if c.inbox.withdraw(q) {
		return ctx.Err()
	}
	return <-q.done
}
