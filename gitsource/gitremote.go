package gitsource

import (
	"context"
	"errors"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// gitRemote is a repository behind a server. It keeps the objects of one commit
// in memory, so that the next fetch brings only what is new. It belongs to the
// goroutine that looks.
type gitRemote struct {
	transport transport
	branch    string
	root      string
	limits    Limits

	store    *memory.Storage // nil: nothing is known, or it cannot be trusted
	have     plumbing.Hash   // the commit the store is complete for
	first    int             // objects in the store when it was new
	filtered bool            // the server leaves out large files
	known    contents
}

func (r *gitRemote) close()            { r.transport.close() }
func (r *gitRemote) watched() []string { return nil }

func (r *gitRemote) tip(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.Look)
	defer cancel()
	hash, err := r.transport.tip(ctx, r.branch)
	if err != nil {
		return "", inTime(ctx, err)
	}
	return hash.String(), nil
}

// fetch brings the tip as the server advertises it now. If what we have does
// not help, for whatever reason, it is thrown away and the commit fetched whole,
// once.
func (r *gitRemote) fetch(ctx context.Context) (fleet.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.Fetch)
	defer cancel()
	incremental := r.store != nil
	s, err := r.fetchOnce(ctx)
	if err == nil {
		return s, nil
	}
	broken := brokenStore(err)
	if broken {
		r.forget()
	}
	if incremental && broken && ctx.Err() == nil {
		if s, err = r.fetchOnce(ctx); err != nil && brokenStore(err) {
			r.forget()
		}
	}
	return s, inTime(ctx, err)
}

func (r *gitRemote) forget() { r.store, r.have = nil, plumbing.ZeroHash }

// brokenStore reports whether the store may be to blame. It is not when nothing
// was fetched at all.
func brokenStore(err error) bool {
	if err == nil {
		return false
	}
	switch classify(err).reason {
	case AuthFailed, HostKey, RepositoryMissing, RefMissing, Empty, PathMissing, TLSFailed, RateLimited:
		return false
	}
	return true
}

// inTime replaces whatever a connection says that was cut by a deadline.
func inTime(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if f, ok := errors.AsType[*failure](err); !ok || f.reason == Unreachable {
			return ctx.Err()
		}
	}
	return err
}

func (r *gitRemote) fetchOnce(ctx context.Context) (fleet.Snapshot, error) {
	want, err := r.pull(ctx)
	if err != nil {
		return fleet.Snapshot{}, err
	}
	r.have = want
	w := walker{store: r.store, limits: r.limits, filtered: r.filtered, known: r.known}
	s, err := w.snapshot(want, r.branch, r.root)
	if err != nil {
		return s, err
	}
	r.known = w.read
	if r.first == 0 {
		r.first = len(r.store.Objects)
	} else if len(r.store.Objects) > 2*r.first+1000 {
		r.prune()
	}
	return s, nil
}

// pull brings the objects of the tip into the store.
func (r *gitRemote) pull(ctx context.Context) (plumbing.Hash, error) {
	session, err := r.transport.open(ctx)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer session.close()
	adv := session.refs()
	want, err := branchTip(adv, r.branch)
	if err != nil {
		return want, err
	}
	if r.store == nil {
		r.store, r.first = memory.NewStorage(), 0
	}
	if want == r.have {
		return want, nil
	}
	r.filtered = adv.Capabilities.Supports(capability.Filter)
	req, err := newRequest(adv.Capabilities, want, r.have, r.limits.Object)
	if err != nil {
		return want, err
	}
	body, err := session.send(ctx, req)
	if err != nil {
		return want, err
	}
	pack, err := readPack(body, req, r.limits.Pack)
	if err == nil {
		err = storePack(r.store, pack, r.limits)
	}
	if err != nil {
		return want, session.explain(err)
	}
	if r.store.HasEncodedObject(want) != nil {
		return want, fail(Corrupt, "the server sent a pack without the commit %s", want)
	}
	return want, nil
}

// prune keeps only what the commit we have reaches. Later packs may build on any
// of it, so it goes through the whole tree, not only the part that is read.
func (r *gitRemote) prune() {
	kept := memory.NewStorage()
	keep := func(hash plumbing.Hash) plumbing.EncodedObject {
		o := r.store.Objects[hash]
		if o == nil || kept.Objects[hash] != nil {
			return nil
		}
		if _, err := kept.SetEncodedObject(o); err != nil {
			return nil
		}
		return o
	}
	var walk func(hash plumbing.Hash)
	walk = func(hash plumbing.Hash) {
		o := keep(hash)
		if o == nil {
			return
		}
		tree, err := object.DecodeTree(r.store, o)
		if err != nil {
			return
		}
		for _, e := range tree.Entries {
			if k, ok := kindOf(e.Mode.String()[1:]); ok && k == directory {
				walk(e.Hash)
			} else {
				keep(e.Hash)
			}
		}
	}
	o := keep(r.have)
	if o == nil {
		return
	}
	commit, err := object.DecodeCommit(r.store, o)
	if err != nil {
		return
	}
	walk(commit.TreeHash)
	r.store, r.first = kept, len(kept.Objects)
}
