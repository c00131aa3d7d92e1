// Package store keeps what must survive: the records of every rollout, the configs
// they name and the journal, on NATS JetStream inside this process.
//
// Records change by one fenced, atomic commit at a time ([Term.Commit]) and are
// synced to disk before it returns. The fence is the record of the epoch: a commit
// is only stored while the epoch is the one its [Term] campaigned for, so that a
// process that lost it can write nothing.
//
// On disk a rollout is a header (JSON) and a ledger: a base, packed densely into a
// few messages, and deltas, which hold what later commits changed. A new base is
// written when the deltas outweigh the old one. The record of the extent says which
// base and deltas count, and the manifest has the number and a digest of all that
// count; whatever else lies in the stream is refuse, taken out later.
//
//	ctl.id                        which store this is
//	ctl.epoch                     who may write
//	ctl.beat                      until when somebody was watching
//	ctl.txn                       the last commit, first message of its batch
//	ctl.roll.<name>               header; empty when the rollout is gone
//	ctl.ledger.<name>             extent of the ledger
//	ctl.base.<name>.<gen>.<i>     entries
//	ctl.delta.<name>.<n>          entries put, agents removed
//	ctl.manifest                  last message of a batch
package store
