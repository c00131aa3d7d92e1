package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrDeposed says that another term has begun: nothing was written, and this
	// term will never write again.
	ErrDeposed = errors.New("another term has begun")
	// ErrUnknown says that the engine did not tell in time what became of a write.
	// The next Commit of the term finds out before it writes.
	ErrUnknown = errors.New("the outcome of a write is not known yet")
)

// outcomeTimeout is how long a write is pursued until its outcome is known, even
// if the caller has gone.
const outcomeTimeout = 15 * time.Second

// Term is the right to write the records, until the next one begins. Its methods
// are safe for concurrent use; one write is in flight at a time.
type Term struct {
	store *Store
	epoch uint64 // sequence of our record of the epoch: the fence

	batch    func(ctx context.Context, id string, messages []message, fence, last expect) (uint64, error)
	patience time.Duration // outcomeTimeout

	slot chan struct{} // capacity 1: who has put something in owns what follows

	base    *mirror   // as last committed
	pending []*change // sent on top of base, outcome unknown: one of them may yet be stored
	refuse  []refuse  // to be taken out
	deposed bool
}

// candidate is the record of the epoch.
type candidate struct {
	Nonce string    `json:"nonce"`
	PID   int       `json:"pid"`
	At    time.Time `json:"at"`
}

// Campaign begins a term, which ends the one before. In the data directory that
// this process has locked nobody else is running, so that there is nobody to wait
// for.
func (s *Store) Campaign(ctx context.Context) (_ *Term, err error) {
	defer s.metrics.done("campaign", time.Now(), &err)
	me := candidate{Nonce: rand.Text(), PID: os.Getpid(), At: time.Now().UTC()}
	body, err := json.Marshal(me)
	if err != nil {
		return nil, err
	}
	for {
		var holder candidate
		epoch, err := s.last(ctx, subjectEpoch, &holder)
		if err != nil {
			return nil, fmt.Errorf("campaign: %w", err)
		}
		if holder.Nonce == me.Nonce { // an answer got lost
			return s.begin(ctx, epoch)
		}
		epoch, err = s.engine.request(ctx, newMessage(subjectEpoch, body), &expect{subjectEpoch, epoch})
		if err == nil {
			return s.begin(ctx, epoch)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("campaign: %w", err)
		}
	}
}

// begin reads the records that the term starts from. Nobody else can have written
// after the epoch.
func (s *Store) begin(ctx context.Context, epoch uint64) (*Term, error) {
	m, err := s.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	t := &Term{store: s, epoch: epoch, slot: make(chan struct{}, 1), base: m, refuse: s.leftovers()}
	t.batch, t.patience = s.engine.batch, outcomeTimeout
	s.log.Info("term begun", "epoch", epoch, "count", len(m.rollouts))
	return t, nil
}

// Epoch returns the number of the term; a later term has a greater one.
func (t *Term) Epoch() uint64 { return t.epoch }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter waits for its turn. It returns the context of the write, which outlives
// the caller's so that no outcome is left open without need.
func (t *Term) enter(ctx context.Context) (context.Context, func(), error) {
	select {
	case t.slot <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if t.deposed {
		<-t.slot
		return nil, nil, ErrDeposed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.patience)
	return ctx, func() { cancel(); <-t.slot }, nil
}

// Commit makes next durable: whole, fenced, synced, or not at all. It finds out
// itself what differs from the last commit, and writes no more than that; if only
// the time of watching differs it writes nothing. Ledgers should share with the
// last ones what did not change, or it costs more to find out.
//
// After [ErrDeposed] this term never writes again. [ErrUnknown] is the only other
// error after which the write may have been done, or may still be; the next Commit
// settles that first.
func (t *Term) Commit(ctx context.Context, next reconciler.State) (err error) {
	defer t.store.metrics.done("commit", time.Now(), &err)
	ctx, leave, err := t.enter(ctx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer leave()
	for {
		// With a write open, even a commit that changes nothing must be written: it
		// takes the place of the other.
		c, err := t.base.diff(next, rand.Text(), t.epoch, len(t.pending) > 0)
		if err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		if c == nil {
			return nil
		}
		if err := t.write(ctx, c); errors.Is(err, errOvertaken) {
			continue
		} else if err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		t.tidy(ctx)
		return nil
	}
}

// errOvertaken says that an earlier write of this term, of which nothing was
// known, was stored. It is the base now.
var errOvertaken = errors.New("an earlier write was stored after all")

// write stores a change and makes it the base, or finds out why not. It may be
// sent several times: the compare-and-set on the manifest lets one through.
func (t *Term) write(ctx context.Context, c *change) error {
	t.pending = append(t.pending, c)
	for wait := time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		revision, err := t.batch(ctx, rand.Text(), c.messages,
			expect{subjectEpoch, t.epoch}, expect{subjectManifest, t.base.revision})
		if err == nil {
			t.adopt(c, revision)
			return nil
		}
		t.store.log.Debug("write not acknowledged", "err", err)
		if !notStored(err) {
			stored, err := t.resolve(ctx)
			switch {
			case errors.Is(err, ErrDeposed):
				return err
			case stored == c:
				return nil
			case stored != nil:
				return errOvertaken
			}
		}
		if pause(ctx, wait) != nil {
			return fmt.Errorf("%w: %v", ErrUnknown, err)
		}
	}
}

// notStored reports whether an error means that the write was refused for the
// moment, for a reason that has nothing to do with the fence.
func notStored(err error) bool {
	c := code(err)
	return c == codeBusy || c == codeIncomplete || c == codeTooMany
}

// resolve asks the store which of the open writes it has, if any, and makes it the
// base. The epoch is read first: once it is not ours nothing of ours is stored any
// more, so that what the manifest then says is final.
func (t *Term) resolve(ctx context.Context) (*change, error) {
	var holder candidate
	epoch, err := t.store.last(ctx, subjectEpoch, &holder)
	if err != nil {
		return nil, err
	}
	var man manifest
	revision, err := t.store.last(ctx, subjectManifest, &man)
	if err != nil {
		return nil, err
	}
	for _, c := range t.pending {
		if c.next.manifest.Txn == man.Txn {
			t.adopt(c, revision)
			return c, nil
		}
	}
	if epoch != t.epoch || revision != t.base.revision {
		t.deposed = true
		t.store.log.Warn("term ended", "epoch", t.epoch, "newer", epoch)
		return nil, ErrDeposed
	}
	return nil, nil
}

// adopt makes a stored change the base. No other open write can be stored now.
func (t *Term) adopt(c *change, revision uint64) {
	for _, r := range c.refuse {
		r.before = t.base.revision + 1
		t.refuse = append(t.refuse, r)
	}
	c.next.revision = revision
	t.base, t.pending = c.next, nil
	t.store.note(revision)
	t.store.latest.Store(c.next)
	if err := t.store.engine.conn.Publish(subjectHint, nil); err != nil {
		t.store.log.Debug("commit not announced", "err", err) // watchers look by themselves
	}
	if c.transition {
		t.store.keep(c.next)
	}
}

// Beat records that somebody is watching, as of now. After [ErrDeposed] this term
// never writes again; any other error is of no consequence: try again later.
func (t *Term) Beat(ctx context.Context, now time.Time) (err error) {
	defer t.store.metrics.done("beat", time.Now(), &err)
	body, err := json.Marshal(beat{now.Round(0).UTC().Truncate(time.Millisecond)})
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	ctx, leave, err := t.enter(ctx)
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	defer leave()
	for {
		_, err := t.store.engine.request(ctx, newMessage(subjectBeat, body), &expect{subjectEpoch, t.epoch})
		switch {
		case err == nil:
			t.base = t.base.seen(now)
			return nil
		case code(err) == codeWrongSequence:
			t.deposed = true
			return fmt.Errorf("beat: %w", ErrDeposed)
		case !notStored(err):
			return fmt.Errorf("beat: %w", err)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("beat: %w", err)
		}
	}
}

// tidy takes out what no longer counts. What it does not manage now it does after
// a later commit; nothing depends on it.
func (t *Term) tidy(ctx context.Context) {
	for len(t.refuse) > 0 {
		r := t.refuse[0]
		err := t.store.engine.records.Purge(ctx, jetstream.WithPurgeSubject(r.subject), jetstream.WithPurgeSequence(r.before))
		if err != nil {
			t.store.log.Debug("old records not taken out", "err", err)
			return
		}
		t.refuse = t.refuse[1:]
	}
}
