package rollout

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

func benchFleet(n int) []*fleet.Agent {
	agents := make([]*fleet.Agent, n)
	for i := range agents {
		a := &fleet.Agent{
			Labels: fleet.Labels{"service.name": "edge", "ring": "canary"}, Capabilities: steerable,
			Connected: true, Known: true, Healthy: true, Since: noon.Add(-time.Hour), LastSeen: noon,
		}
		binary.BigEndian.PutUint64(a.ID[:], uint64(i))
		agents[i] = a
	}
	return agents
}

func benchSpec() *Spec {
	return &Spec{
		Waves: []Wave{
			{Name: "canary", Size: Size{Count: 2}, Selector: ringMatcher("canary"), Bake: 15 * time.Minute},
			{Name: "half", Size: Size{Percent: 50}},
		},
		MaxUnavailable: Size{Percent: 10}, MinHealthyTime: 30 * time.Second, HealthyDeadline: 5 * time.Minute,
		ProgressDeadline: 10 * time.Minute, OnFailure: Pause,
	}
}

// BenchmarkStep measures a tick: first is the start of the first attempt, steady
// one in which nothing happened to a completed rollout, waves one in the middle
// of a wave in which nothing happened.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		agents, spec := benchFleet(n), benchSpec()
		in := Input{Now: noon, Spec: spec, Target: fleet.Hash{1}, Agents: agents}
		b.Run(fmt.Sprintf("first/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Step(State{Name: "edge"}, in)
			}
		})
		working := settle(State{Name: "edge"}, in, func(s State) bool { return s.Wave == 1 })
		b.Run(fmt.Sprintf("waves/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Step(working, in)
			}
		})
		done := settle(working, in, func(s State) bool { return s.Phase == Completed })
		in.Now = done.PhaseAt
		b.Run(fmt.Sprintf("steady/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Step(done, in)
			}
		})
	}
}

// settle steps while every agent obeys at once.
func settle(s State, in Input, enough func(State) bool) State {
	for {
		out := Step(s, in)
		s = out.State
		if enough(s) {
			return s
		}
		moved := false
		for i, a := range in.Agents {
			e, _ := s.Ledger.Get(a.ID)
			if d, ok := s.Assignment(&e); ok && a.Delivery != d {
				in.Agents[i].Delivery, in.Agents[i].Status = d, fleet.Applied
				moved = true
			}
		}
		if !moved {
			in.Now = out.WakeAt
		}
	}
}
