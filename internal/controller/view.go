package controller

import (
	"iter"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/reconciler"
)

// View is what [Controller.Query] shows: the owner's state between two ticks.
// Nothing of it may be kept or changed.
type View struct{ c *Controller }

// Status returns the fleet as of the last durable plan.
func (v View) Status() reconciler.Status { return v.c.status }

// Problem returns why the last plan could not be made durable, or "".
func (v View) Problem() string { return v.c.problem }

// Source returns what became of the last look at the remote.
func (v View) Source() fleet.SourceStatus { return v.c.source }

// Set returns the manifests in force, or nil before the first good commit.
func (v View) Set() *manifest.Set { return v.c.set }

// Revisions returns the latest revisions, newest first.
func (v View) Revisions() []reconciler.RevisionStatus { return v.c.revisions }

// Agents yields every known agent with what the records say about it, sorted by ID.
func (v View) Agents() iter.Seq2[*fleet.Agent, reconciler.AgentStatus] {
	return func(yield func(*fleet.Agent, reconciler.AgentStatus) bool) {
		for _, a := range v.c.herd.all() {
			if !yield(a, reconciler.DescribeAgent(v.c.state, v.c.ownership, a)) {
				return
			}
		}
	}
}

// Agent returns one agent, or false if it is not known.
func (v View) Agent(id fleet.AgentID) (*fleet.Agent, reconciler.AgentStatus, bool) {
	a, ok := v.c.herd.byID[id]
	if !ok {
		return nil, reconciler.AgentStatus{}, false
	}
	return a, reconciler.DescribeAgent(v.c.state, v.c.ownership, a), true
}

// Config returns a content that some record or manifest names.
func (v View) Config(h fleet.Hash) (fleet.Config, bool) {
	c, ok := v.c.blobs[h]
	return c, ok
}
