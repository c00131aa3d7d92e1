package gitsource

import "time"

const (
	settle     = 20 * time.Millisecond // from a change on disk to the look
	pokeGap    = time.Second           // between two looks that were asked for
	recheckGap = 2 * time.Second       // before a tip that went back is believed
	backoffMin = 5 * time.Second
	backoffMax = 5 * time.Minute
	jitter     = 0.1 // of every interval, up or down
)

// schedule decides when to look next. It reads no clock: every method is told
// the time, and next is the only result. Requests bring next forward; nothing
// but a finished look moves it back, so that a steady stream of requests never
// starves the look.
type schedule struct {
	poll      time.Duration
	random    func() float64 // in [0,1)
	next      time.Time      // zero: now
	last      time.Time      // when the last look began
	notBefore time.Time      // what the server asked for
	failures  int            // in a row
}

func (s *schedule) began(now time.Time) { s.last = now }

// done notes that the look ended; f is nil if it went well. Intervals count from
// the end of the look.
func (s *schedule) done(now time.Time, f *failure) {
	wait := s.poll
	s.notBefore = time.Time{}
	if f == nil {
		s.failures = 0
	} else {
		if f.reason.transient() {
			wait = s.backoff()
		}
		if f.after > 0 {
			wait = min(max(wait, f.after), time.Hour)
			s.notBefore = now.Add(wait)
		}
		s.failures++
	}
	s.next = now.Add(s.spread(wait))
	if s.next.Before(s.notBefore) {
		s.next = s.notBefore
	}
}

// backoff doubles from 5 s (or the poll interval, if shorter) to 5 minutes (or
// the poll interval, if longer): with 30 s it goes 5, 10, 20, 40, 80, 160, 300.
func (s *schedule) backoff() time.Duration {
	wait, limit := min(backoffMin, s.poll), max(backoffMax, s.poll)
	for range min(s.failures, 30) {
		if wait *= 2; wait >= limit {
			return limit
		}
	}
	return wait
}

func (s *schedule) spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - jitter + 2*jitter*s.random()))
}

// changed asks for a look once a change on disk has settled.
func (s *schedule) changed(now time.Time) { s.forward(now.Add(settle)) }

// poke asks for a look now, but not sooner than a moment after the last one.
func (s *schedule) poke(now time.Time) {
	if earliest := s.last.Add(pokeGap); !s.last.IsZero() && now.Before(earliest) {
		now = earliest
	}
	s.forward(now)
}

// recheck asks for a second opinion on a tip that went back.
func (s *schedule) recheck(now time.Time) { s.forward(now.Add(min(recheckGap, s.poll))) }

func (s *schedule) forward(at time.Time) {
	if at.Before(s.notBefore) {
		at = s.notBefore
	}
	if at.Before(s.next) {
		s.next = at
	}
}

func (s *schedule) wait(now time.Time) time.Duration { return max(0, s.next.Sub(now)) }
