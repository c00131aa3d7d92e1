package gitsource

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// fakeRemote is a remote without any I/O, for tests in a bubble.
type fakeRemote struct {
	mu      sync.Mutex // guards all below, and the updates of a bubble
	id      string
	err     error
	onFetch func()
	tips    []time.Time
	fetches int
	closed  bool
}

// set changes what the remote says.
func (f *fakeRemote) set(id string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id, f.err = id, err
}

func (f *fakeRemote) tip(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tips = append(f.tips, time.Now())
	return f.id, f.err
}

func (f *fakeRemote) fetch(context.Context) (fleet.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetches++
	if f.onFetch != nil {
		f.onFetch()
	}
	return fleet.Snapshot{Revision: fleet.Revision{ID: f.id, Branch: "main"}, Root: "."}, nil
}

func (f *fakeRemote) watched() []string { return nil }
func (f *fakeRemote) close()            { f.closed = true }

func testConfig(t *testing.T) Config {
	t.Helper()
	cfg := Config{URL: "fake", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if err := cfg.setDefaults(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// bubble runs a Source on a fake remote with a clock of its own.
func bubble(t *testing.T, test func(t *testing.T, s *Source, f *fakeRemote, updates *[]Update)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRemote{id: "1"}
		var updates []Update
		cfg := testConfig(t)
		cfg.OnUpdate = func(u Update) {
			f.mu.Lock()
			defer f.mu.Unlock()
			updates = append(updates, u)
		}
		s := newSource(cfg, f, "fake")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		test(t, s, f, &updates)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if !f.closed {
			t.Error("the remote was not closed")
		}
	})
}

func TestPollsWithJitter(t *testing.T) {
	bubble(t, func(t *testing.T, _ *Source, f *fakeRemote, updates *[]Update) {
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(f.tips); n < 110 || n > 130 {
			t.Errorf("%d polls in an hour, want about 120", n)
		}
		differ := false
		for i := 1; i < len(f.tips); i++ {
			gap := f.tips[i].Sub(f.tips[i-1])
			if gap < 27*time.Second || gap > 33*time.Second {
				t.Errorf("gap of %s, want 30 s give or take 10 %%", gap)
			}
			differ = differ || i > 1 && gap != f.tips[i-1].Sub(f.tips[i-2])
		}
		if !differ {
			t.Error("no jitter")
		}
		if f.fetches != 1 || (*updates)[0].Snapshot == nil || (*updates)[1].Snapshot != nil {
			t.Errorf("%d fetches of one revision", f.fetches)
		}
		if len(*updates) != len(f.tips) {
			t.Errorf("%d updates for %d looks", len(*updates), len(f.tips))
		}
	})
}

func TestBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, s *Source, f *fakeRemote, updates *[]Update) {
		f.set("1", errors.New("down"))
		s.Poke()
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []time.Duration{5, 10, 20, 40, 80, 160, 300, 300, 300}
		for i, w := range want {
			gap := f.tips[i+2].Sub(f.tips[i+1])
			if w *= time.Second; gap < w*9/10 || gap > w*11/10 {
				t.Errorf("retry %d after %s, want %s", i+1, gap, w)
			}
			if u := (*updates)[i+1]; u.Status.Failures != i+1 || u.Status.Reason != string(Unreachable) || u.Snapshot != nil {
				t.Errorf("update %d: %+v", i+1, u.Status)
			}
		}
		f.set("1", nil)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		last := (*updates)[len(*updates)-1].Status
		if last.Failures != 0 || last.Reason != "" || last.Head.ID != "1" || f.fetches != 1 {
			t.Errorf("after it is back: %+v", last)
		}
	})
}

// What does not get better by trying again soon is tried at the poll interval.
func TestNoBackoffForMissing(t *testing.T) {
	bubble(t, func(t *testing.T, _ *Source, f *fakeRemote, _ *[]Update) {
		f.set("1", errNoBranch("main"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(f.tips); n < 18 || n > 23 {
			t.Errorf("%d polls in ten minutes, want about 20", n)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, func(t *testing.T, s *Source, f *fakeRemote, updates *[]Update) {
		f.set("1", &failure{reason: RateLimited, err: errors.New("slow down"), after: 10 * time.Minute})
		time.Sleep(time.Minute)
		synctest.Wait()
		n := len(f.tips)
		s.Poke()
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		if len(f.tips) != n {
			t.Errorf("looked %d times before the server allowed it", len(f.tips)-n)
		}
		f.set("1", nil)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if (*updates)[len(*updates)-1].Status.Reason != "" {
			t.Error("did not come back")
		}
	})
}

func TestPokeLooksNow(t *testing.T) {
	bubble(t, func(t *testing.T, s *Source, f *fakeRemote, updates *[]Update) {
		time.Sleep(2 * time.Second)
		f.set("2", nil)
		start := time.Now()
		s.Poke()
		synctest.Wait()
		if got := (*updates)[len(*updates)-1]; got.Snapshot == nil || got.Status.Head.ID != "2" || time.Since(start) != 0 {
			t.Errorf("the poke did not look at once: %+v", got.Status)
		}
		n := len(f.tips)
		for range 1000 { // a storm of webhooks, ten a second
			s.Poke()
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if looks := len(f.tips) - n; looks < 90 || looks > 101 {
			t.Errorf("%d looks in 100 s of pokes, want one a second", looks)
		}
	})
}

// A steady stream of changes never starves the look: the deadline is brought
// forward, never pushed back.
func TestDebounceIsNeverPushedBack(t *testing.T) {
	start := time.Unix(0, 0)
	s := schedule{poll: 30 * time.Second, random: func() float64 { return 0.5 }}
	s.began(start)
	s.done(start, nil)
	if s.next != start.Add(30*time.Second) {
		t.Fatalf("next %s", s.next)
	}
	looks := 0
	for now := start; now.Before(start.Add(10 * time.Second)); now = now.Add(time.Millisecond) {
		s.changed(now)
		if !now.Before(s.next) {
			looks++
			s.began(now)
			s.done(now, nil)
		}
	}
	// Each look is asked for by the first change after the one before.
	if want := 9999 / int((settle+time.Millisecond)/time.Millisecond); looks != want {
		t.Errorf("%d looks in 10 s of changes every millisecond, want %d", looks, want)
	}
}

func TestRunStopsInTheMiddleOfALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRemote{id: "1"}
		ctx, cancel := context.WithCancel(t.Context())
		f.onFetch = cancel
		cfg := testConfig(t)
		cfg.OnUpdate = func(u Update) { t.Errorf("an update after the end: %+v", u) }
		if err := newSource(cfg, f, "fake").Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
