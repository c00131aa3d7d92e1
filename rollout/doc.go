// Package rollout is the state machine of one rollout: it moves a set of agents
// from one config to the next in waves, judges each agent by what it reports, and
// stops or goes home when they suffer.
//
// The package is pure. [Step] takes the state as it was, the world as it is and
// the time, and returns the state as it should be, with the facts that explain it.
// It reads no clock, does no I/O, keeps nothing and changes none of its arguments.
package rollout
