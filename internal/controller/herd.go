package controller

import (
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// herd is every agent we know, in memory only. The pointers stay the same for as
// long as an agent is known, so that an Ownership built on them stays valid; the
// values behind them are changed by the owner, between plans.
type herd struct {
	byID   map[fleet.AgentID]*fleet.Agent
	sorted []*fleet.Agent // by ID; rebuilt when stale
	stale  bool
}

func newHerd() herd { return herd{byID: map[fleet.AgentID]*fleet.Agent{}} }

// remember puts an agent in of which only the records know: offline until it
// reports, its labels unknown.
func (h *herd) remember(id fleet.AgentID, since time.Time) {
	if _, ok := h.byID[id]; !ok {
		h.byID[id] = &fleet.Agent{ID: id, Since: since}
		h.stale = true
	}
}

// fold takes one report in. It is true when the report may change which rollout
// owns the agent.
func (h *herd) fold(r fleet.Report) bool {
	a, ok := h.byID[r.Agent]
	if !ok {
		if r.Gone {
			return false
		}
		a = &fleet.Agent{ID: r.Agent}
		h.byID[r.Agent] = a
		h.stale = true
	}
	was := *a
	*a = fleet.Fold(was, r)
	return !ok || was.Capabilities != a.Capabilities || !sameLabels(was.Labels, a.Labels)
}

// sameLabels is quick for the usual case: the very same map.
func sameLabels(a, b fleet.Labels) bool {
	return len(a) == len(b) && a.Equal(b) && (a == nil) == (b == nil)
}

// all returns every agent, sorted by ID.
func (h *herd) all() []*fleet.Agent {
	if h.stale {
		h.sorted = make([]*fleet.Agent, 0, len(h.byID)) // a new one: an Ownership may hold the old
		for _, a := range h.byID {
			h.sorted = append(h.sorted, a)
		}
		slices.SortFunc(h.sorted, func(a, b *fleet.Agent) int { return a.ID.Compare(b.ID) })
		h.stale = false
	}
	return h.sorted
}

// expire forgets agents that have been offline for longer than ttl, and returns
// how many.
func (h *herd) expire(now time.Time, ttl time.Duration) int {
	n := 0
	for id, a := range h.byID {
		if !a.Connected && now.Sub(a.Since) > ttl {
			delete(h.byID, id)
			h.stale = true
			n++
		}
	}
	return n
}
