package flush

import "time"

// dueHeap has the item that is due first at its head.
type dueHeap[T Item] []T

// until is how long none is due.
func (h dueHeap[T]) until(now time.Time) time.Duration {
	if len(h) == 0 {
		return time.Hour
	}
	return h[0].Entry().due.Sub(now)
}

func (h dueHeap[T]) Len() int           { return len(h) }
func (h dueHeap[T]) Less(i, j int) bool { return h[i].Entry().due.Before(h[j].Entry().due) }

func (h dueHeap[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].Entry().index, h[j].Entry().index = i+1, j+1
}

// Push implements heap.Interface.
func (h *dueHeap[T]) Push(x any) {
	item := x.(T) //nolint:forcetypeassert,errcheck // nothing else is pushed
	*h = append(*h, item)
	item.Entry().index = len(*h)
}

// Pop implements heap.Interface.
func (h *dueHeap[T]) Pop() any {
	n := len(*h) - 1
	item := (*h)[n]
	var none T
	(*h)[n] = none
	*h = (*h)[:n]
	item.Entry().index = 0
	return item
}
