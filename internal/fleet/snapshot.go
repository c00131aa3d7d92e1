package fleet

import "time"

// Revision is a commit of the fleet repository, or one state of a plain
// directory.
type Revision struct {
	ID      string // the commit's full hash in hexadecimal; "dir:<sha256>" for a plain directory
	Branch  string
	Author  string
	Subject string    // first line of the commit message
	Time    time.Time // the committer's time; for a directory, when the change was seen
}

// Short returns the first 10 characters of a commit's hash, or of a directory's.
func (r Revision) Short() string {
	const n = 10
	id := r.ID
	if len(id) > 4 && id[:4] == "dir:" {
		return id[:min(len(id), n+4)]
	}
	return id[:min(len(id), n)]
}

// Kind tells what a [Source] is in the tree.
type Kind uint8

// The kinds of tree entries that matter.
const (
	Regular   Kind = iota // Body is the content
	Symlink               // Body is the target, as written
	Submodule             // Body is empty: its content is elsewhere, and never read
)

// Source is one file of the fleet repository.
type Source struct {
	Path string // slash-separated, relative to the root of the repository
	Kind Kind
	Body []byte
}

// Snapshot is everything below --git-path at one revision, sorted by path:
// loaded whole or not at all. Paths stay relative to the repository's root.
// Bodies are shared between snapshots and never changed.
type Snapshot struct {
	Revision Revision
	Root     string // --git-path, "." for all
	Files    []Source
}

// SourceStatus is what became of the last look at the remote. It is shown, never
// decided upon.
type SourceStatus struct {
	URL         string // without credentials
	Branch      string
	Head        Revision  // the newest revision fetched whole, checked or not
	LastSuccess time.Time // last time the remote answered
	Failures    int       // in a row
	Reason      string    // enum of gitsource: "" when all is well
	Message     string    // for people; no secrets, at most a few hundred bytes
	NextPoll    time.Time
}
