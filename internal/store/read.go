package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/nats-io/nats.go/jetstream"
)

// Load reads and checks everything: each checksum, the number of keys, and the
// manifest. It sees every commit that was acknowledged before. A store that does
// not agree with itself is [ErrCorrupt].
func (s *Store) Load(ctx context.Context) (_ reconciler.State, err error) {
	defer s.metrics.done("load", time.Now(), &err)
	m, err := s.reload(ctx)
	if err != nil {
		return reconciler.State{}, fmt.Errorf("load the records: %w", err)
	}
	return m.state(), nil
}

// tries is how often a read is begun anew because commits came in between.
const tries = 20

// reload reads all records from the stream.
func (s *Store) reload(ctx context.Context) (*mirror, error) {
	var err error
	for range tries {
		var m *mirror
		if m, err = s.readAll(ctx); err == nil {
			s.latest.Store(m)
			return m, nil
		}
		if !errors.Is(err, errMoved) {
			return nil, err
		}
	}
	return nil, err
}

// errMoved says that a read was overtaken by a commit.
var errMoved = errors.New("the records changed while they were read")

func (s *Store) readAll(ctx context.Context) (*mirror, error) {
	reached, err := s.noted() // before reading: commits go on meanwhile
	if err != nil {
		return nil, err
	}
	before, err := s.engine.records.Info(ctx)
	if err != nil {
		return nil, err
	}
	read, err := s.readFrom(ctx, 1)
	if err != nil {
		return nil, err
	}
	after, err := s.engine.records.Info(ctx)
	if err != nil {
		return nil, err
	}
	if before.State.LastSeq != after.State.LastSeq || before.State.Msgs != after.State.Msgs {
		return nil, errMoved
	}
	if err := countKeys(uint64(len(read)), after.State.Msgs, after.State.NumSubjects); err != nil {
		return nil, err
	}
	m, err := s.build(&mirror{}, read)
	if err != nil {
		return nil, err
	}
	if m.revision < reached {
		return nil, fmt.Errorf("%w: the records are as of revision %d, but they have been at %d; restore the directory from a copy",
			ErrCorrupt, m.revision, reached)
	}
	var left []refuse
	for subject, r := range read {
		if !m.counts(subject) {
			left = append(left, refuse{subject: subject, before: r.sequence + 1})
		}
	}
	s.mu.Lock()
	s.left = left
	s.mu.Unlock()
	return m, nil
}

// countKeys compares how many records were read with what the engine says there
// is: damage in a block makes it hand out fewer, without a word.
func countKeys(read, messages, subjects uint64) error {
	if read != subjects || messages != subjects {
		return fmt.Errorf("%w: %d records can be read, there should be %d (%d messages)", ErrCorrupt, read, subjects, messages)
	}
	return nil
}

// leftovers returns what the last full read found that does not count: a crash
// came before it was taken out.
func (s *Store) leftovers() []refuse {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.left
	s.left = nil
	return left
}

// build applies what was read to m and checks the result against the manifest
// that was read with it.
func (s *Store) build(m *mirror, read map[string]raw) (*mirror, error) {
	bodies := make(map[string]found, len(read))
	for subject, r := range read {
		bodies[subject] = r.found
	}
	next, err := m.apply(bodies)
	if err != nil {
		return nil, err
	}
	next.watched = m.watched
	if r, ok := read[subjectBeat]; ok {
		var b beat
		if err := json.Unmarshal(r.body, &b); err != nil {
			return nil, fmt.Errorf("%w: %s: %v", ErrCorrupt, subjectBeat, err)
		}
		next.watched = b.Watched
	}
	r, ok := read[subjectManifest]
	if !ok {
		if len(next.rollouts) > 0 {
			return nil, fmt.Errorf("%w: records without a manifest", ErrCorrupt)
		}
		return next, nil
	}
	if err := json.Unmarshal(r.body, &next.manifest); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrCorrupt, subjectManifest, err)
	}
	next.revision = r.sequence
	var opening txn
	if t, ok := read[subjectTxn]; !ok {
		return nil, fmt.Errorf("%w: a manifest without its commit", ErrCorrupt)
	} else if err := json.Unmarshal(t.body, &opening); err != nil || opening.ID != next.manifest.Txn {
		return nil, fmt.Errorf("%w: the manifest is of commit %s, the last commit is %s", ErrCorrupt, next.manifest.Txn, opening.ID)
	}
	return next, next.verify()
}

// raw is a record with its place in the stream.
type raw struct {
	found
	sequence uint64
}

// readFrom reads every record from a sequence on, and verifies its checksum.
func (s *Store) readFrom(ctx context.Context, sequence uint64) (map[string]raw, error) {
	read := map[string]raw{}
	for {
		m, err := s.engine.records.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return read, nil
		}
		if err != nil {
			return nil, err
		}
		body, err := unseal(m.Subject, m.Data)
		if err != nil {
			return nil, err
		}
		read[m.Subject] = raw{found{body, sumOf(m.Subject, m.Data)}, m.Sequence}
		sequence = m.Sequence + 1
	}
}

// last reads the newest record of a subject.
func (s *Store) last(ctx context.Context, subject string, into any) (sequence uint64, err error) {
	m, err := s.engine.records.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	body, err := unseal(subject, m.Data)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return 0, fmt.Errorf("%w: %s: %v", ErrCorrupt, subject, err)
	}
	return m.Sequence, nil
}

// refresh brings m up to date by reading only what was written since. In doubt it
// reads everything.
func (s *Store) refresh(ctx context.Context, m *mirror) (*mirror, error) {
	for range tries {
		var man manifest
		revision, err := s.last(ctx, subjectManifest, &man)
		if err != nil {
			return nil, err
		}
		var b beat
		if _, err := s.last(ctx, subjectBeat, &b); err != nil {
			return nil, err
		}
		if latest := s.latest.Load(); latest != nil && latest.revision == revision && latest.manifest == man {
			return latest.seen(b.Watched), nil
		}
		if m.revision == revision {
			return m.seen(b.Watched), nil
		}
		read, err := s.readFrom(ctx, m.revision+1)
		if err != nil {
			return nil, err
		}
		if next, err := s.build(m, read); err == nil && next.revision >= revision {
			return next, nil
		}
		// Overtaken by a commit, or a part was already taken out: begin anew if the
		// manifest moved, else look at everything.
		var again manifest
		if now, err := s.last(ctx, subjectManifest, &again); err != nil {
			return nil, err
		} else if now == revision {
			return s.reload(ctx)
		}
	}
	return s.reload(ctx)
}
