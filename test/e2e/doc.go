// Package e2e runs the whole product against real agents: bellwether serve as a
// process, git repositories made with the git command, and OpAMP Supervisors with
// real Collectors, all on loopback. It has no code of its own, only tests behind
// the build tag e2e; `make e2e` builds the agents (see test/agents) and runs them.
//
// The tests look from outside only: at the JSON API, and at what each Supervisor
// wrote to its own disk and log. What was offered to whom is always proved by the
// Supervisor, never by our own word.
package e2e
