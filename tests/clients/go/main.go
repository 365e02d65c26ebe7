// The Go clients' tests: `goclients BOOTSTRAP PREFIX NAME` runs one and exits with 1 when it fails.
//
// This file holds what they share; franz.go and sarama.go hold the tests.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

var bootstrap, prefix string

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

var tests = map[string]func(){
	"franzCodecs": franzCodecs, "franzGroup": franzGroup, "saramaCodecs": saramaCodecs, "saramaGroup": saramaGroup,
}

func main() {
	bootstrap, prefix = os.Args[1], os.Args[2]
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Fprintln(os.Stderr, failure)
			os.Exit(1)
		}
	}()
	tests[os.Args[3]]()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func same(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		panic(fmt.Sprintf("%s: got %v, want %v", what, got, want))
	}
}

func eventually(what string, condition func() bool) {
	for end := time.Now().Add(25 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic("not within 25 s: " + what)
		}
	}
}

// count is how many distinct values in a list of numbered records are below end.
func count(values []string, end int) int {
	seen := map[string]bool{}
	for _, v := range values {
		if n, err := strconv.Atoi(v); err == nil && n < end {
			seen[v] = true
		}
	}
	return len(seen)
}
