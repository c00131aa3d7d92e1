// Package gitsource follows a git remote, a local repository or a plain directory
// and turns each new revision into a [fleet.Snapshot].
//
// A [Source] asks the remote for the tip of one branch and fetches only when it
// has moved: one commit, without history, into memory. There is no worktree and
// no repository on disk. The files are read by a strict walk of our own: an
// object that cannot be read is an error, never a deleted file. What a server
// can send is limited ([Limits]), what goes wrong has a name ([Reason]), and
// until something better is known the last snapshot stays what it was: a remote
// that is down, a branch that is gone or a commit over the limits never reads as
// an empty fleet repository.
//
// Nothing here looks into the files; that is for package manifest. Signatures
// are not verified. Commit dates are shown, never compared.
package gitsource
