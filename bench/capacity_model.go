package main

import (
	"math"
	"time"
)

// cost is what one operation costs Redis: µs of CPU, bytes in and out.
type cost struct{ cpu, in, out float64 }

func (c cost) times(n float64) cost { return cost{c.cpu * n, c.in * n, c.out * n} }

func (c cost) plus(d cost) cost { return cost{c.cpu + d.cpu, c.in + d.in, c.out + d.out} }

// costs are the constants of the model of docs/capacity.md, as measured.
type costs struct {
	acquire, record cost    // of many, when Redis has much to do
	lone            cost    // a record, when Redis has nothing else to do
	first           cost    // the first record of an agent's bucket, which loads and saves the whole breaker
	poll            cost    // the look for one agent's override, 500 in a pipeline
	delivery        cost    // of one event to one replica
	list            float64 // µs that a list of all agents stops Redis for, an agent
	redisAgent      float64 // bytes of an agent in Redis, a window of twelve buckets
	replicaAgent    float64 // bytes of an agent in a replica that calls it
	connections     float64 // of a replica to one Redis
	trip            float64 // seconds that a lone record is under way
	sent            float64 // records a second that 64 callers of one process got through on this machine
}

const (
	stalenessSeconds = 1.0    // or, where the interval is longer than a quarter of it, four intervals
	pollsPerSecond   = 2.0    // by each replica of breakerd or bridge, of each agent in use
	recordsPerSecond = 50_000 // of successes, a process in the cached mode
	bucketSeconds    = 10.0   // a twelfth of the window
	quiet            = 1000.0 // records a second below which each finds Redis idle
	coreShare        = 0.7    // of a core that Redis may be kept busy
)

// fleetLoad is what a fleet does. Calls are spread evenly.
type fleetLoad struct {
	cached   bool
	replicas float64
	agents   float64
	callers  float64 // replicas that call the same agent
	calls    float64 // a second, of the whole fleet
	interval time.Duration
	most     float64 // records a second that a process sends; 0: as many as it may
}

// need is what a load needs of Redis, a second.
type need struct {
	acquires, records float64
	firsts            float64 // of the records
	redis             cost
	polls             float64 // µs of CPU more, with breakerd or bridge
}

// pairs is how many agents all replicas know, together.
func (l fleetLoad) pairs() float64 { return l.agents * l.callers }

// of is the model: an acquire and a record a call in the strict mode. In the cached mode a replica sends a record an agent in every
// interval in which there is something to send, and asks again when four fifths of the staleness have gone by since the last answer.
func (l fleetLoad) of(c costs) (n need) {
	n.acquires, n.records = l.calls, l.calls
	if l.cached {
		each := l.calls / l.pairs()
		most := recordsPerSecond * l.replicas
		if l.most > 0 {
			most = min(l.most*l.replicas, most)
		}
		n.records = min(l.calls/(1+each*(l.interval.Seconds()+c.trip)), most)
		gap := l.pairs()/n.records - 1/each // between the first outcome of a record and its answer
		fresh := max(stalenessSeconds, 4*l.interval.Seconds()) * 0.8
		n.acquires = n.records * math.Exp(-each*max(0, fresh-gap))
	}
	record := c.record
	if n.records < quiet {
		record = c.lone
	}
	n.firsts = min(n.records, l.agents/bucketSeconds)
	n.redis = c.acquire.times(n.acquires).plus(record.times(n.records - n.firsts)).plus(c.first.times(n.firsts))
	n.polls = l.pairs() * pollsPerSecond * c.poll.cpu
	return n
}

// cores is the CPU of Redis in cores.
func (n need) cores() float64 { return n.redis.cpu / 1e6 }

// masters is how many Redis it takes, with the polls, at most so busy.
func (n need) masters() float64 { return math.Ceil((n.redis.cpu + n.polls) / 1e6 / coreShare) }
