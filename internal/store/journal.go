package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const subjectJournal = "aud"

// Journal appends lines, which are opaque here, durable on return. The oldest are
// forgotten by size and age. A line may be there twice after an error.
func (s *Store) Journal(ctx context.Context, lines [][]byte) (err error) {
	defer s.metrics.done("journal", time.Now(), &err)
	var body []byte
	for i, line := range lines {
		body = appendPart(body, line)
		if len(body) < chunkBytes && i < len(lines)-1 {
			continue
		}
		if _, err := s.engine.request(ctx, newMessage(subjectJournal, body), nil); err != nil {
			return fmt.Errorf("write the journal: %w", err)
		}
		body = nil
	}
	return nil
}

// ReadJournal returns the newest lines, at most limit, oldest first. Damaged lines
// are left out: nothing is decided on the journal.
func (s *Store) ReadJournal(ctx context.Context, limit int) (_ [][]byte, err error) {
	defer s.metrics.done("read_journal", time.Now(), &err)
	info, err := s.engine.journal.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	var newestFirst [][]byte
	for seq := info.State.LastSeq; seq >= max(info.State.FirstSeq, 1) && len(newestFirst) < limit; seq-- {
		m, err := s.engine.journal.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		body, err := unseal(subjectJournal, m.Data)
		if err != nil {
			s.log.Warn("journal entry is damaged", "err", err)
			continue
		}
		lines := unpackLines(body)
		slices.Reverse(lines)
		newestFirst = append(newestFirst, lines...)
	}
	newestFirst = newestFirst[:min(len(newestFirst), limit)]
	slices.Reverse(newestFirst)
	return newestFirst, nil
}

func unpackLines(b []byte) (lines [][]byte) {
	for len(b) > 0 {
		var line []byte
		var ok bool
		if line, b, ok = cutPart(b); !ok {
			return lines
		}
		lines = append(lines, line)
	}
	return lines
}
