package main

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"time"
)

const pooledValues = 4096

// values makes values that differ without spending the time that is measured on randomness: a pool is made
// beforehand, and each value is one of it with its own number in front.
type values struct{ pool []byte }

func newValues() values {
	pool := make([]byte, pooledValues*valueBytes)
	_, _ = rand.Read(pool) // never fails
	return values{pool}
}

func (v values) make(number uint64) []byte {
	start := number % pooledValues * valueBytes
	value := make([]byte, valueBytes)
	copy(value, v.pool[start:start+valueBytes])
	binary.BigEndian.PutUint64(value, number)
	return value
}

func secondsSince(began time.Time) float64 {
	return math.Round(time.Since(began).Seconds()*1000) / 1000
}

func round(rate float64) int { return int(math.Round(rate)) }
