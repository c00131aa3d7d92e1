// Package sim is a fleet of simulated agents that speak real OpAMP over
// WebSockets, for load, demos and tests. They behave as the OpAMP Supervisor
// does (v0.149): same hash, no word; APPLYING with the old effective config,
// unhealthy for a moment, healthy with the new one, APPLIED; the full state when
// asked, and after a reconnect nothing but uid, sequence number and
// capabilities. [ParseFault] scripts what goes wrong.
//
// Everything an agent is (uid, labels, jitter) follows from [FleetConfig].Seed and
// its place in the fleet.
package sim
