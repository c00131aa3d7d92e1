package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/store/storetest"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
	"pgregory.net/rapid"
)

// drawState changes a state at random: headers, ledgers, rollouts.
func drawState(t *rapid.T, was reconciler.State) reconciler.State {
	next := reconciler.State{Watched: was.Watched.Add(time.Second)}
	for _, name := range []string{"core", "edge", "x.y"} {
		r, ok := was.Rollout(name)
		switch what := rapid.IntRange(0, 9).Draw(t, name); {
		case what == 0: // gone, or not there yet
			continue
		case what == 1 || !ok: // anew
			r = storetest.Rollout(name, rapid.IntRange(0, 1500).Draw(t, "agents"))
		case what == 2:
			r.Phase = rapid.SampledFrom(rollout.Phases()).Draw(t, "phase")
		case what == 3:
			edit := r.Ledger.Edit()
			from := rapid.IntRange(0, 1500).Draw(t, "from")
			for i := range rapid.IntRange(0, 300).Draw(t, "removed") {
				edit.Remove(storetest.AgentID(from + i))
			}
			r.Ledger = edit.Ledger()
		case what == 4: // a wave, in one go
			all := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Perm(2000)
			r = storetest.Offered(r, next.Watched, all[:rapid.IntRange(0, 2000).Draw(t, "wave")]...)
		case what <= 8:
			r = storetest.Offered(r, next.Watched, rapid.SliceOfN(rapid.IntRange(0, 2000), 0, 4).Draw(t, "offered")...)
		}
		next.Rollouts = append(next.Rollouts, r)
	}
	return next
}

// TestDeltasEqualBases is the law of the records: whatever was committed in
// whatever order, reading everything and following the changes both give the state
// that was committed last, and exactly the records that count are counted.
func TestDeltasEqualBases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leader, follower := &mirror{}, &mirror{}
		disk := map[string]message{}
		var state reconciler.State
		for i := range rapid.IntRange(1, 15).Draw(t, "commits") {
			state = drawState(t, state)
			c, err := leader.diff(state, fmt.Sprint(i), 1, false)
			if err != nil {
				t.Fatal(err)
			}
			if c == nil {
				continue
			}
			news := map[string]found{}
			for _, m := range c.messages {
				body, err := unseal(m.subject, m.sealed)
				if err != nil {
					t.Fatal(err)
				}
				if _, twice := news[m.subject]; twice {
					t.Fatalf("%s twice in one batch", m.subject)
				}
				news[m.subject], disk[m.subject] = found{body, m.sum()}, m
			}
			c.next.revision = leader.revision + uint64(len(c.messages))
			leader = c.next

			if follower, err = follower.apply(news); err != nil {
				t.Fatal(err)
			}
			follower.manifest = leader.manifest
			sameRecords(t, "followed", follower, state)
		}
		all := map[string]found{}
		for subject, m := range disk {
			if !leader.counts(subject) {
				continue // as tidy would
			}
			body, err := unseal(subject, m.sealed)
			if err != nil {
				t.Fatal(err)
			}
			all[subject] = found{body, m.sum()}
		}
		loaded, err := (&mirror{}).apply(all)
		if err != nil {
			t.Fatal(err)
		}
		loaded.manifest = leader.manifest
		sameRecords(t, "loaded", loaded, state)
		for tok, h := range loaded.rollouts {
			if was := leader.rollouts[tok]; h.extent != was.extent || h.weight != was.weight || h.base != was.base {
				t.Fatalf("%s: loaded with %+v, base %d, weight %d; written with %+v, base %d, weight %d",
					tok, h.extent, h.base, h.weight, was.extent, was.base, was.weight)
			}
		}
	})
}

func sameRecords(t *rapid.T, what string, m *mirror, want reconciler.State) {
	t.Helper()
	if err := m.verify(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got := m.state()
	got.Watched = want.Watched
	if diff := storetest.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// TestTokens: different names have different subjects, and all are sound.
func TestTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		if (token(a) == token(b)) != (a == b) {
			t.Fatalf("%q is %s, %q is %s", a, token(a), b, token(b))
		}
		if tok := token(a); tok == "" || strings.ContainsAny(tok, ".*> \t\r\n\x00") {
			t.Fatalf("%q is %q", a, tok)
		}
	})
}

// TestAmortised: small changes to a large ledger seldom cost a new base, and the
// deltas never outgrow it.
func TestAmortised(t *testing.T) {
	edge := storetest.Rollout("edge", 10_000)
	m := &mirror{}
	written, bases := 0, 0
	const commits = 2000
	for i := range commits {
		c, err := m.diff(stateOf(edge), fmt.Sprint(i), 1, false)
		must(t, err)
		gen := uint64(0)
		if h := m.rollouts["edge"]; h != nil {
			gen = h.extent.Gen
		}
		for _, msg := range c.messages {
			written += len(msg.sealed)
		}
		c.next.revision = m.revision + uint64(len(c.messages))
		if m = c.next; m.rollouts["edge"].extent.Gen != gen {
			bases++
		}
		edge = storetest.Offered(edge, storetest.Epoch().Add(time.Duration(i)*time.Second), i, i+1, i+2)
	}
	t.Logf("%d commits wrote %d bytes each on average, %d bases", commits, written/commits, bases)
	if each := written / commits; each > 8<<10 {
		t.Errorf("%d bytes a commit", each)
	}
}
