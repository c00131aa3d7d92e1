package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/store/storetest"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func campaign(t testing.TB, s *Store) *Term {
	t.Helper()
	term, err := s.Campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return term
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fixture is a store with one commit in it.
func fixture(t testing.TB, agents int) (*Store, *Term, rollout.State) {
	t.Helper()
	s := openStore(t, t.TempDir())
	t.Cleanup(func() { must(t, s.Close()) })
	term := campaign(t, s)
	edge := storetest.Rollout("edge", agents)
	must(t, term.Commit(t.Context(), stateOf(edge)))
	return s, term, edge
}

func stateOf(r ...rollout.State) reconciler.State { return storetest.State(storetest.Epoch(), r...) }

func lastSeq(t testing.TB, s *Store) uint64 {
	t.Helper()
	info, err := s.engine.records.Info(t.Context())
	must(t, err)
	return info.State.LastSeq
}

func expectLoaded(t testing.TB, s *Store, want reconciler.State) {
	t.Helper()
	got, err := s.Load(t.Context())
	must(t, err)
	storetest.Expect(t, "what is stored", want, got)
}

// TestFence: a term that has been succeeded writes nothing, and the stream does
// not even move.
func TestFence(t *testing.T) {
	s, old, edge := fixture(t, 50)
	young := campaign(t, s)
	if young.Epoch() <= old.Epoch() {
		t.Fatalf("epoch %d follows %d", young.Epoch(), old.Epoch())
	}
	before := lastSeq(t, s)
	if err := old.Commit(t.Context(), stateOf(storetest.Offered(edge, storetest.Epoch(), 1))); !errors.Is(err, ErrDeposed) {
		t.Fatalf("commit: %v", err)
	}
	old.deposed = false // as if it had not noticed
	if err := old.Beat(t.Context(), time.Now()); !errors.Is(err, ErrDeposed) {
		t.Fatalf("beat: %v", err)
	}
	if after := lastSeq(t, s); after != before {
		t.Fatalf("the stream went from %d to %d", before, after)
	}
}

// TestNoChangeNoWrite: a commit of what is there is free.
func TestNoChangeNoWrite(t *testing.T) {
	s, term, edge := fixture(t, 50)
	before := lastSeq(t, s)
	must(t, term.Commit(t.Context(), storetest.State(storetest.Epoch().Add(time.Hour), edge)))
	if after := lastSeq(t, s); after != before {
		t.Fatalf("the stream went from %d to %d", before, after)
	}
}

// TestBusyIsNoDeposition makes the engine answer 10164 for real: the term tries
// again, and its write is stored once.
func TestBusyIsNoDeposition(t *testing.T) {
	s, term, edge := fixture(t, 50)
	real, busy := term.batch, 0
	term.batch = func(ctx context.Context, id string, messages []message, fence, last expect) (uint64, error) {
		if busy++; busy <= 3 {
			// A condition on a record that the same batch has written before.
			twice := append([]message{messages[len(messages)-1]}, messages...)
			_, err := real(ctx, id, twice, expect{subjectEpoch, term.epoch}, last)
			if code(err) != codeBusy {
				t.Errorf("try %d: %v, want code %d", busy, err, codeBusy)
			}
			return 0, err
		}
		return real(ctx, id, messages, fence, last)
	}
	want := stateOf(storetest.Offered(edge, storetest.Epoch(), 1))
	must(t, term.Commit(t.Context(), want))
	if busy != 4 {
		t.Fatalf("sent %d times", busy)
	}
	expectLoaded(t, s, want)
}

// TestLostAnswer: a write that was stored, but whose answer was lost, is not
// written twice.
func TestLostAnswer(t *testing.T) {
	s, term, edge := fixture(t, 50)
	real, sent := term.batch, 0
	term.batch = func(ctx context.Context, id string, messages []message, fence, last expect) (uint64, error) {
		if _, err := real(ctx, id, messages, fence, last); err != nil {
			t.Error(err)
		}
		sent++
		return 0, context.DeadlineExceeded
	}
	want := stateOf(storetest.Offered(edge, storetest.Epoch(), 1))
	must(t, term.Commit(t.Context(), want))
	if sent != 1 {
		t.Fatalf("sent %d times", sent)
	}
	term.batch = real
	want = stateOf(storetest.Offered(want.Rollouts[0], storetest.Epoch(), 2))
	must(t, term.Commit(t.Context(), want))
	expectLoaded(t, s, want)
}

// TestLostWrite: a write that never arrived is sent again.
func TestLostWrite(t *testing.T) {
	s, term, edge := fixture(t, 50)
	real, sent := term.batch, 0
	term.batch = func(ctx context.Context, id string, messages []message, fence, last expect) (uint64, error) {
		if sent++; sent == 1 {
			return 0, context.DeadlineExceeded
		}
		return real(ctx, id, messages, fence, last)
	}
	want := stateOf(storetest.Offered(edge, storetest.Epoch(), 1))
	must(t, term.Commit(t.Context(), want))
	expectLoaded(t, s, want)
}

// TestLateWrite: a write given up for lost arrives before, or after, the one that
// follows it. In both orders the store ends with what was committed last.
func TestLateWrite(t *testing.T) {
	for _, before := range []bool{true, false} {
		s, term, edge := fixture(t, 50)
		real := term.batch
		var late func() error
		term.patience = 5 * time.Millisecond
		term.batch = func(_ context.Context, id string, messages []message, fence, last expect) (uint64, error) {
			late = func() error {
				_, err := real(t.Context(), id, messages, fence, last)
				return err
			}
			return 0, context.DeadlineExceeded
		}
		lost := stateOf(storetest.Offered(edge, storetest.Epoch(), 1), storetest.Rollout("lost", 5))
		if err := term.Commit(t.Context(), lost); !errors.Is(err, ErrUnknown) {
			t.Fatalf("commit without an answer: %v", err)
		}
		term.batch, term.patience = real, outcomeTimeout
		// Back to what was there: even this must be written, to be in the place of
		// the other.
		want := stateOf(edge)
		if before {
			must(t, late())
		}
		must(t, term.Commit(t.Context(), want))
		if !before {
			if err := late(); code(err) != codeWrongSequence {
				t.Fatalf("the late write: %v", err)
			}
		}
		expectLoaded(t, s, want)
		want = stateOf(storetest.Offered(edge, storetest.Epoch(), 3))
		must(t, term.Commit(t.Context(), want))
		expectLoaded(t, s, want)
	}
}

// TestOneInFlight: commits of one term never overlap.
func TestOneInFlight(t *testing.T) {
	_, term, edge := fixture(t, 50)
	real, flying := term.batch, make(chan struct{}, 1)
	term.batch = func(ctx context.Context, id string, messages []message, fence, last expect) (uint64, error) {
		select {
		case flying <- struct{}{}:
			defer func() { <-flying }()
		default:
			t.Error("two batches in flight")
		}
		return real(ctx, id, messages, fence, last)
	}
	failed := make(chan error)
	for i := range 10 {
		go func() { failed <- term.Commit(t.Context(), stateOf(storetest.Offered(edge, storetest.Epoch(), i))) }()
	}
	for range 10 {
		must(t, <-failed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	term.slot <- struct{}{}
	if err := term.Commit(ctx, stateOf()); !errors.Is(err, context.Canceled) {
		t.Fatalf("a commit that waits, when its context ends: %v", err)
	}
	<-term.slot
}

// TestThreeOfManyAgents: a commit that changes 3 of 100,000 agents writes three
// agents' worth, and the first one fits into one batch.
func TestThreeOfManyAgents(t *testing.T) {
	s, term, edge := fixture(t, 100_000)
	before := lastSeq(t, s)
	if before > 100 {
		t.Errorf("the first commit took %d messages", before)
	}
	want := stateOf(storetest.Offered(edge, storetest.Epoch(), 7, 50_000, 99_999))
	must(t, term.Commit(t.Context(), want))
	read, err := s.readFrom(t.Context(), before+1)
	must(t, err)
	n := 0
	for subject, r := range read {
		n += len(subject) + len(r.body) + sealSize
	}
	t.Logf("%d records, %d bytes", len(read), n)
	if n > 1024 {
		t.Errorf("wrote %d bytes in %d records", n, len(read))
	}
	expectLoaded(t, s, want)
}
