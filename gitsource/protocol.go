package gitsource

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// transport is one way to talk to a git server.
type transport interface {
	// tip asks cheaply for the commit that branch names.
	tip(ctx context.Context, branch string) (plumbing.Hash, error)
	// open starts a session in which one pack can be asked for. ctx ends it.
	open(ctx context.Context) (session, error)
	close()
}

// session is one conversation with git-upload-pack, protocol version 0.
type session interface {
	refs() *packp.AdvRefs
	send(ctx context.Context, req *packp.UploadPackRequest) (*limited, error)
	// explain adds to err what the server has said about it.
	explain(err error) error
	close()
}

const packWords = "the answer before the pack"

// readAdvertisement reads the list of references. It is nil without an error if
// the server speaks version 2.
func readAdvertisement(body io.Reader) (*packp.AdvRefs, error) {
	r := bufio.NewReaderSize(body, 64<<10)
	first := peekLine(r)
	if bytes.Contains(first, []byte("object-format=sha256")) {
		return nil, errSHA256
	}
	if bytes.HasPrefix(first, []byte("version 2")) {
		return nil, readCapabilities(r)
	}
	adv := packp.NewAdvRefs()
	if err := adv.Decode(r); err != nil {
		return nil, protocolError(err)
	}
	if adv.IsEmpty() {
		return nil, errNoCommits
	}
	return adv, nil
}

// readCapabilities goes through what a version 2 server says it can do.
func readCapabilities(r io.Reader) error {
	s := pktline.NewScanner(r)
	for begun := false; s.Scan(); {
		line := strings.TrimSpace(string(s.Bytes()))
		if line == "object-format=sha256" {
			return errSHA256
		}
		if line == "" && begun {
			return nil
		}
		begun = begun || line == "version 2"
	}
	if err := s.Err(); err != nil {
		return protocolError(err)
	}
	return fail(Unreachable, "the list of capabilities broke off")
}

// peekLine returns the first line that holds capabilities, behind the header
// that there is over http. It never waits for more than that line.
func peekLine(r *bufio.Reader) []byte {
	for at := 0; ; {
		head, err := r.Peek(at + 4)
		if err != nil {
			return nil
		}
		size, err := strconv.ParseUint(string(head[at:]), 16, 16)
		if err != nil || size > 0 && size < 4 {
			return nil
		}
		line, err := r.Peek(at + max(4, int(size)))
		if err != nil {
			return nil
		}
		if size == 0 && at > 0 || size > 4 && line[at+4] == '#' {
			at += max(4, int(size))
			continue
		}
		return line[at+4:]
	}
}

var (
	errSHA256    = fail(Unsupported, "SHA-256 repositories are not supported")
	errNoCommits = fail(Empty, "the repository has no commits")
)

// protocolError gives go-git's errors our names.
func protocolError(err error) error {
	if _, ok := errors.AsType[*failure](err); ok {
		return err
	}
	if errors.Is(err, packp.ErrEmptyAdvRefs) {
		return errNoCommits
	}
	if line, ok := errors.AsType[*pktline.ErrorLine](err); ok {
		return serverError(line.Text)
	}
	if errors.Is(err, packp.ErrEmptyInput) {
		return fail(Unreachable, "the server closed the connection without a word")
	}
	if uerr, ok := errors.AsType[*packp.ErrUnexpectedData](err); ok {
		return fail(Unreachable, "the list of references broke off or is not one: %s", printable(uerr.Msg, maxServerText))
	}
	return err
}

// serverError judges an error in the server's own words.
func serverError(text string) error {
	reason := Unreachable
	lower := strings.ToLower(text)
	for _, words := range []string{
		"not found", "does not exist", "not appear to be a git repository", "no such repository",
		"could not be found", "access denied or repository not exported",
	} {
		if strings.Contains(lower, words) {
			reason = RepositoryMissing
		}
	}
	if strings.Contains(lower, "permission denied") || strings.Contains(lower, "access denied") && reason != RepositoryMissing {
		reason = AuthFailed
	}
	return fail(reason, "the server says: %s", printable(text, maxServerText))
}

func refName(branch string) string { return "refs/heads/" + branch }

func branchTip(adv *packp.AdvRefs, branch string) (plumbing.Hash, error) {
	hash, ok := adv.References[refName(branch)]
	if !ok || hash.IsZero() {
		return plumbing.ZeroHash, errNoBranch(branch)
	}
	return hash, nil
}

func errNoBranch(branch string) error {
	return fail(RefMissing, "the repository has no branch %q", branch)
}

// lsRefs is the version 2 question for one branch.
func lsRefs(branch string) []byte {
	var b bytes.Buffer
	line := func(text string) { fmt.Fprintf(&b, "%04x%s", len(text)+4, text) }
	line("command=ls-refs\n")
	line("agent=bellwether\n")
	b.WriteString("0001")
	line("ref-prefix " + refName(branch) + "\n")
	b.WriteString("0000")
	return b.Bytes()
}

// readLsRefs finds the branch in the answer; the prefix may match others too.
func readLsRefs(r io.Reader, branch string) (plumbing.Hash, error) {
	s := pktline.NewScanner(bufio.NewReader(r))
	found, complete := plumbing.ZeroHash, false
	for s.Scan() {
		line := strings.TrimSuffix(string(s.Bytes()), "\n")
		if line == "" {
			complete = true
			break
		}
		hash, rest, _ := strings.Cut(line, " ")
		name, _, _ := strings.Cut(rest, " ")
		if name != refName(branch) {
			continue
		}
		if len(hash) == 64 {
			return plumbing.ZeroHash, errSHA256
		}
		if !plumbing.IsHash(hash) {
			return plumbing.ZeroHash, fail(Unreachable, "the server names no commit for %q", branch)
		}
		found = plumbing.NewHash(hash)
	}
	if err := s.Err(); err != nil {
		return plumbing.ZeroHash, protocolError(err)
	}
	if !complete {
		return plumbing.ZeroHash, fail(Unreachable, "the list of references broke off")
	}
	if found.IsZero() {
		return plumbing.ZeroHash, errNoBranch(branch)
	}
	return found, nil
}

// newRequest asks for want alone, without its history. With have, a commit whose
// every object we hold, the pack holds only what is new, as deltas against what
// we have: two kilobytes instead of the whole tree.
func newRequest(adv *capability.List, want, have plumbing.Hash, filter int64) (*packp.UploadPackRequest, error) {
	if !adv.Supports(capability.Shallow) {
		return nil, fail(Unsupported, "the server cannot send a commit without its history")
	}
	adv.Delete(capability.MultiACK)
	adv.Delete(capability.MultiACKDetailed)
	req := packp.NewUploadPackRequestFromCapabilities(adv)
	req.Wants = []plumbing.Hash{want}
	req.Depth = packp.DepthCommits(1)
	if err := req.Capabilities.Set(capability.Shallow); err != nil {
		return nil, err
	}
	if adv.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return nil, err
		}
	}
	if adv.Supports(capability.Filter) {
		if err := req.Capabilities.Set(capability.Filter); err != nil {
			return nil, err
		}
		req.Filter = packp.FilterBlobLimit(uint64(filter)+1, packp.BlobLimitPrefixNone)
	}
	if !have.IsZero() {
		req.Haves = []plumbing.Hash{have}
		req.Shallows = []plumbing.Hash{have}
	}
	return req, nil
}

func encodeRequest(w io.Writer, req *packp.UploadPackRequest, flush bool) error {
	if err := req.UploadRequest.Encode(w); err != nil {
		return fmt.Errorf("asking for a pack: %w", err)
	}
	if err := req.UploadHaves.Encode(w, flush); err != nil {
		return fmt.Errorf("asking for a pack: %w", err)
	}
	_, err := io.WriteString(w, "0009done\n")
	return err
}

// readPack reads the words before the pack and returns the pack's bytes.
func readPack(body *limited, req *packp.UploadPackRequest, limit int64) (io.Reader, error) {
	res := packp.NewUploadPackResponse(req)
	if err := res.Decode(io.NopCloser(body)); err != nil {
		return nil, protocolError(err)
	}
	// The side band costs 5 bytes in 64 KiB and some words of progress.
	body.allow("the pack", limit+limit/1024+1<<20)
	var pack io.Reader = res
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, res)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, res)
	}
	return newLimited(pack, "the pack", limit), nil
}
