// Package storetest is the conformance suite of the store: whatever keeps the
// records must pass [Run].
package storetest

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// Store is what is tested.
type Store interface {
	Load(ctx context.Context) (reconciler.State, error)
	Watch(ctx context.Context) (<-chan reconciler.State, error)
	Begin(ctx context.Context) (Term, error)
	PutConfig(ctx context.Context, c fleet.Config) error
	Config(ctx context.Context, h fleet.Hash) (fleet.Config, error)
	PruneConfigs(ctx context.Context, keep map[fleet.Hash]bool) error
	Journal(ctx context.Context, lines [][]byte) error
	ReadJournal(ctx context.Context, limit int) ([][]byte, error)
	Close() error
}

// Term is the right to write.
type Term interface {
	Commit(ctx context.Context, next reconciler.State) error
	Beat(ctx context.Context, now time.Time) error
}

// Subject is a store under test. Open opens a directory; Deposed and NoConfig are
// the errors the suite expects.
type Subject struct {
	Open     func(t testing.TB, dir string) Store
	Deposed  error
	NoConfig error
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	for name, test := range map[string]func(*testing.T, Subject){
		"an empty store has an empty state": testEmpty,
		"durable across reopen":             testReopen,
		"a deposed term writes nothing":     testDeposed,
		"concurrent commits take turns":     testConcurrent,
		"beats":                             testBeat,
		"the watch tells every last state":  testWatch,
		"rollouts come back under any name": testNames,
		"many changes in a row":             testMany,
		"configs":                           testConfigs,
		"journal":                           testJournal,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func begin(t *testing.T, s Store) Term {
	t.Helper()
	term, err := s.Begin(t.Context())
	must(t, err)
	return term
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, s Store) reconciler.State {
	t.Helper()
	state, err := s.Load(t.Context())
	must(t, err)
	return state
}

func testEmpty(t *testing.T, sub Subject) {
	s := sub.Open(t, t.TempDir())
	Expect(t, "fresh", reconciler.State{}, load(t, s))
	must(t, begin(t, s).Commit(t.Context(), reconciler.State{}))
	Expect(t, "after a commit of nothing", reconciler.State{}, load(t, s))
	must(t, s.Close())
}

func testReopen(t *testing.T, sub Subject) {
	dir := t.TempDir()
	s := sub.Open(t, dir)
	term := begin(t, s)
	edge, core := Rollout("edge", 1000), Rollout("core", 0)
	want := State(Epoch(), core, edge)
	must(t, term.Commit(t.Context(), want))
	Expect(t, "at once", want, load(t, s))

	want = State(Epoch().Add(time.Second), core, Offered(edge, Epoch().Add(time.Second), 3, 700, 2000))
	must(t, term.Commit(t.Context(), want))
	must(t, s.Close())
	s = sub.Open(t, dir)
	Expect(t, "reopened", want, load(t, s))

	term = begin(t, s)
	want = State(Epoch().Add(time.Minute), core)
	must(t, term.Commit(t.Context(), want))
	must(t, s.Close())
	s = sub.Open(t, dir)
	Expect(t, "with a rollout removed", want, load(t, s))
	must(t, s.Close())
}

func testDeposed(t *testing.T, sub Subject) {
	s := sub.Open(t, t.TempDir())
	old := begin(t, s)
	want := State(Epoch(), Rollout("edge", 10))
	must(t, old.Commit(t.Context(), want))
	young := begin(t, s)
	late := State(Epoch().Add(time.Hour), Offered(want.Rollouts[0], Epoch(), 1))
	for range 2 {
		if err := old.Commit(t.Context(), late); !errors.Is(err, sub.Deposed) {
			t.Fatalf("commit of a deposed term: %v", err)
		}
		if err := old.Beat(t.Context(), Epoch().Add(time.Hour)); !errors.Is(err, sub.Deposed) {
			t.Fatalf("beat of a deposed term: %v", err)
		}
	}
	Expect(t, "after the deposed term wrote", want, load(t, s))
	want = State(Epoch().Add(time.Second), Offered(want.Rollouts[0], Epoch(), 2))
	must(t, young.Commit(t.Context(), want))
	Expect(t, "after the new term wrote", want, load(t, s))
	must(t, s.Close())
}

func testConcurrent(t *testing.T, sub Subject) {
	s := sub.Open(t, t.TempDir())
	term := begin(t, s)
	const writers = 8
	states := make([]reconciler.State, writers)
	failed := make(chan error, writers)
	for i := range states {
		states[i] = State(time.Time{}, Offered(Rollout("edge", 300), Epoch(), i, 2*i+100))
		go func() { failed <- term.Commit(t.Context(), states[i]) }()
	}
	for range writers {
		must(t, <-failed)
	}
	got := load(t, s)
	if !slices.ContainsFunc(states, func(s reconciler.State) bool { return Equal(s, got) }) {
		t.Fatal("what is stored is no state that was committed")
	}
	must(t, s.Close())
}

func testBeat(t *testing.T, sub Subject) {
	dir := t.TempDir()
	s := sub.Open(t, dir)
	term := begin(t, s)
	edge := Rollout("edge", 3)
	must(t, term.Commit(t.Context(), State(Epoch(), edge)))
	later := Epoch().Add(5 * time.Second)
	must(t, term.Beat(t.Context(), later))
	Expect(t, "after a beat", State(later, edge), load(t, s))
	must(t, term.Commit(t.Context(), State(Epoch(), Offered(edge, later, 1))))
	Expect(t, "the time of watching does not go back", State(later, Offered(edge, later, 1)), load(t, s))
	must(t, s.Close())
	s = sub.Open(t, dir)
	Expect(t, "reopened", State(later, Offered(edge, later, 1)), load(t, s))
	must(t, s.Close())
}

func testWatch(t *testing.T, sub Subject) {
	s := sub.Open(t, t.TempDir())
	term := begin(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	records, err := s.Watch(ctx)
	must(t, err)
	Expect(t, "at once", reconciler.State{}, <-records)
	want := State(Epoch(), Rollout("edge", 500))
	for i := range 20 {
		want = State(Epoch().Add(time.Duration(i)*time.Second), Offered(want.Rollouts[0], Epoch(), i, i+200))
		must(t, term.Commit(t.Context(), want))
		if i%3 == 0 {
			Expect(t, "after a commit", want, until(t, records, want))
		}
	}
	Expect(t, "the last", want, until(t, records, want))
	cancel()
	for range records { // closed in the end
	}
	must(t, s.Close())
}

// until returns the first state that is want, or the last one before the end.
func until(t *testing.T, records <-chan reconciler.State, want reconciler.State) (got reconciler.State) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case s, open := <-records:
			if !open {
				t.Fatal("the watch ended")
			}
			if got = s; Equal(got, want) {
				return got
			}
		case <-timeout:
			return got
		}
	}
}

func testNames(t *testing.T, sub Subject) {
	dir := t.TempDir()
	s := sub.Open(t, dir)
	names := []string{"", "a", "a.b", "a b", "a.*", "a.>", "*", ">", "A", "=61", "ä", "a/b", "a=2eb", "\x00", "$JS"}
	slices.Sort(names)
	var want reconciler.State
	for i, name := range names {
		want.Rollouts = append(want.Rollouts, Rollout(name, i))
	}
	term := begin(t, s)
	must(t, term.Commit(t.Context(), want))
	if err := term.Commit(t.Context(), State(Epoch(), Rollout("\xff", 0))); err == nil {
		t.Fatal("a name that could not be read back was written")
	}
	must(t, s.Close())
	s = sub.Open(t, dir)
	got := load(t, s)
	for i, r := range got.Rollouts {
		if i >= len(names) || r.Ledger.Len() != i {
			t.Fatalf("rollout %d of %d: %q has %d entries", i, len(got.Rollouts), r.Name, r.Ledger.Len())
		}
	}
	if len(got.Rollouts) != len(names) {
		t.Fatalf("%d of %d rollouts came back", len(got.Rollouts), len(names))
	}
	must(t, s.Close())
}

func testMany(t *testing.T, sub Subject) {
	dir := t.TempDir()
	s := sub.Open(t, dir)
	term := begin(t, s)
	random := rand.New(rand.NewPCG(1, 2))
	rollouts := map[string]rollout.State{"edge": Rollout("edge", 2000), "core": Rollout("core", 5)}
	var want reconciler.State
	for i := range 300 {
		edge := Offered(rollouts["edge"], Epoch().Add(time.Duration(i)*time.Second), random.IntN(2000), random.IntN(2100))
		rollouts["edge"] = edge
		switch i % 50 {
		case 20:
			delete(rollouts, "core")
		case 30:
			rollouts["core"] = Rollout("core", i)
		}
		want = State(Epoch().Add(time.Duration(i)*time.Second), values(rollouts)...)
		must(t, term.Commit(t.Context(), want))
	}
	Expect(t, "after many commits", want, load(t, s))
	must(t, s.Close())
	s = sub.Open(t, dir)
	Expect(t, "reopened", want, load(t, s))
	must(t, s.Close())
}

func values(m map[string]rollout.State) (out []rollout.State) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[name])
	}
	return out
}

func testConfigs(t *testing.T, sub Subject) {
	dir := t.TempDir()
	s := sub.Open(t, dir)
	configs := []fleet.Config{Config(1, 0), Config(2, 1000), Config(3, 3<<20), fleet.NewConfig()}
	for _, c := range configs {
		if _, err := s.Config(t.Context(), c.Hash); !errors.Is(err, sub.NoConfig) {
			t.Fatalf("a config nobody kept: %v", err)
		}
		must(t, s.PutConfig(t.Context(), c))
		must(t, s.PutConfig(t.Context(), c))
	}
	must(t, s.Close())
	s = sub.Open(t, dir)
	for _, c := range configs {
		got, err := s.Config(t.Context(), c.Hash)
		must(t, err)
		if again := fleet.NewConfig(got.Files...).Hash; again != c.Hash || len(got.Files) != len(c.Files) {
			t.Fatalf("config %s came back as %s", c.Hash.Short(), again.Short())
		}
	}
	wrong := Config(4, 10)
	wrong.Hash = Hash(4)
	if err := s.PutConfig(t.Context(), wrong); err == nil {
		t.Fatal("a config under a wrong hash was kept")
	}
	must(t, s.PruneConfigs(t.Context(), map[fleet.Hash]bool{configs[2].Hash: true}))
	for i, c := range configs {
		_, err := s.Config(t.Context(), c.Hash)
		if i == 2 {
			must(t, err)
		} else if !errors.Is(err, sub.NoConfig) {
			t.Fatalf("config %d after prune: %v", i, err)
		}
	}
	must(t, s.PutConfig(t.Context(), configs[1])) // after a prune it is written anew
	if _, err := s.Config(t.Context(), configs[1].Hash); err != nil {
		t.Fatal(err)
	}
	must(t, s.Close())
}

func testJournal(t *testing.T, sub Subject) {
	dir := t.TempDir()
	s := sub.Open(t, dir)
	must(t, s.Journal(t.Context(), nil))
	must(t, s.Journal(t.Context(), [][]byte{[]byte("one"), {}, []byte("two")}))
	must(t, s.Journal(t.Context(), [][]byte{[]byte("three")}))
	must(t, s.Close())
	s = sub.Open(t, dir)
	for limit, want := range map[int][]string{100: {"one", "", "two", "three"}, 2: {"two", "three"}, 0: {}} {
		lines, err := s.ReadJournal(t.Context(), limit)
		must(t, err)
		got := []string{}
		for _, line := range lines {
			got = append(got, string(line))
		}
		if !slices.Equal(got, want) {
			t.Errorf("the last %d lines are %q, want %q", limit, got, want)
		}
	}
	must(t, s.Close())
}
