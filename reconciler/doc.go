// Package reconciler compares what the fleet repository asks for with what agents
// report and decides what to do next: it matches agents to rollouts, steps each
// rollout and derives the status.
//
// The package is pure: [Reconcile] turns (State, World) into a [Plan]. It reads no
// clock and does no I/O. The shell carries the plan out in the order of its fields.
package reconciler
