// Package opampsrv speaks the server side of OpAMP: connections, authentication
// and limits on one side, [fleet.Report] and offers on the other. It holds no
// policy: it never decides what an agent should run.
//
// # How it is built
//
// The protocol's messages are opamp-go's protobufs. The transport is gorilla's
// WebSocket and net/http, driven here and not through opamp-go's server (v0.23),
// because four promises cannot be kept through its Attach: a message limit over
// fragments that closes with 1009 (its *websocket.Conn is out of reach), no
// write buffer pinned for each idle agent (no WriteBufferPool), replies that
// hold nothing but what we put in them (it forces custom_capabilities into
// each), and an answer to malformed plain-HTTP bodies.
//
// Each WebSocket has one reader goroutine and, only while there is something to
// write, one writer. Between them is a mailbox: replies in order, and for each
// agent one slot for an offer, where the newest wins. Every write has a deadline,
// so a peer that does not read costs one goroutine for at most SendTimeout and
// delays nobody else. One mutex guards the registry and all mailboxes; nothing
// is written, decoded or called back under it.
//
// # What the server remembers
//
// For each agent: the last sequence number, its remote config status, and what
// it refused. That is kept for an hour after the agent went, so that a reconnect
// need not repeat the full state. After a restart nothing is known, and each
// agent is asked once for its full state.
package opampsrv
