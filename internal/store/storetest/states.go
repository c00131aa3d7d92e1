package storetest

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/google/go-cmp/cmp"
)

// Epoch is when the made-up states begin.
func Epoch() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// AgentID returns the id of a made-up agent.
func AgentID(n int) (id fleet.AgentID) {
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}

// Hash returns a made-up hash.
func Hash(n int) (h fleet.Hash) {
	h[0] = 0xc0
	binary.BigEndian.PutUint32(h[28:], uint32(n))
	return h
}

// Rollout returns a made-up rollout over the first agents, each with an entry as
// it is after an attempt was started.
func Rollout(name string, agents int) rollout.State {
	entries := make([]rollout.Entry, agents)
	for i := range entries {
		entries[i] = rollout.Entry{
			Agent: AgentID(i), Assigned: fleet.Delivery{Config: Hash(1)}, Wave: int16(i % 3),
			BaseGood: true, BaseConnected: true, GoodSince: Epoch(),
		}
	}
	return rollout.State{
		Name: name, Target: Hash(2), Stable: Hash(1), Phase: rollout.Progressing, Hold: rollout.Baking,
		TargetRevision: fleet.Revision{ID: "6f54215", Branch: "main", Author: "A. Shepherd", Subject: "edge: sample less", Time: Epoch()},
		Waves:          []rollout.Frozen{{Name: "canary", Members: agents / 3, Bake: time.Minute}, {Name: rollout.Rest, Members: agents - agents/3}},
		StartedAt:      Epoch(), PhaseAt: Epoch(), Ledger: rollout.LedgerOf(entries),
	}
}

// Offered returns r after the given agents were offered the target.
func Offered(r rollout.State, at time.Time, agents ...int) rollout.State {
	edit := r.Ledger.Edit()
	for _, n := range agents {
		e, _ := edit.Get(AgentID(n))
		e.Agent, e.Assigned, e.Result, e.Dirty, e.Moved = AgentID(n), fleet.Delivery{Config: r.Target, Attempt: r.Attempt}, rollout.InFlight, true, true
		e.OfferedAt, e.GoodSince = at, time.Time{}
		edit.Put(e)
	}
	r.Ledger = edit.Ledger()
	return r
}

// State returns the rollouts as records.
func State(watched time.Time, rollouts ...rollout.State) reconciler.State {
	return reconciler.State{Rollouts: rollouts, Watched: watched}
}

// Equal reports whether two states say the same.
func Equal(a, b reconciler.State) bool { return Diff(a, b) == "" }

// Diff tells how two states differ.
func Diff(want, got reconciler.State) string {
	ledgers := cmp.Comparer(func(a, b rollout.Ledger) bool {
		changed, removed := a.Changes(b)
		return len(changed)+len(removed) == 0
	})
	return cmp.Diff(want, got, ledgers)
}

// Expect fails the test if got is not want.
func Expect(t testing.TB, what string, want, got reconciler.State) {
	t.Helper()
	if diff := Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// Config returns a made-up config of about the given size.
func Config(n, size int) fleet.Config {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i*i>>8) ^ byte(i*n)
	}
	return fleet.NewConfig(
		fleet.File{Name: "", ContentType: "text/yaml", Body: body},
		fleet.File{Name: fmt.Sprintf("extra-%d.yaml", n), ContentType: "text/yaml", Body: []byte("receivers: {}\n")},
	)
}
