package store

import (
	"context"
	"fmt"
	"time"

	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/nats-io/nats.go"
)

// subjectHint is where a commit is announced. It is never stored and may get lost:
// watchers also look by themselves.
const subjectHint = "hint.commit"

const lookEvery = time.Second

// Watch tells the records as they are stored: at once, and after every commit,
// whoever made it. Nothing is told before it is synced. Of several commits in quick
// succession the last is told. The channel is closed when ctx ends, when the Store
// is closed, and on any doubt about what is stored.
func (s *Store) Watch(ctx context.Context) (<-chan reconciler.State, error) {
	m, err := s.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch the records: %w", err)
	}
	hints := make(chan *nats.Msg, 1) // when it is full somebody has hinted already
	sub, err := s.engine.conn.ChanSubscribe(subjectHint, hints)
	if err != nil {
		return nil, fmt.Errorf("watch the records: %w", err)
	}
	out := make(chan reconciler.State)
	s.tasks.Go(func() {
		defer close(out)
		defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is gone
		s.watch(ctx, m, hints, out)
	})
	return out, nil
}

// current returns the records as they are stored now.
func (s *Store) current(ctx context.Context) (*mirror, error) {
	if m := s.latest.Load(); m != nil {
		return s.refresh(ctx, m)
	}
	return s.reload(ctx)
}

func (s *Store) watch(ctx context.Context, m *mirror, hints <-chan *nats.Msg, out chan<- reconciler.State) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	state, tell := m.state(), out
	for {
		select {
		case tell <- state:
			tell = nil
			continue
		case <-ctx.Done():
			return
		case <-s.done.Done():
			return
		case <-hints:
		case <-look.C:
		}
		next, err := s.refresh(ctx, m)
		if err != nil {
			if ctx.Err() == nil && s.done.Err() == nil {
				s.log.Error("watch of the records ended", "err", err)
			}
			return
		}
		if next.revision != m.revision {
			state, tell = next.state(), out
		}
		m = next
	}
}
