// Writes a file for each case with parquet-go and Go's own encoding/csv and encoding/json, and the manifest.
package main

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

var users = []int64{12345678, 23456789, 87654321, 99999999}
var actions = []string{"a", "b", "x", "a"}
var products = []string{"idea", "pyc", "idea", "pyc"}
var times = []time.Time{
	time.Date(2025, 10, 1, 0, 0, 0, 1000000, time.UTC),
	time.Date(2025, 10, 1, 10, 0, 0, 123000000, time.UTC),
	time.Date(2025, 10, 1, 23, 59, 59, 999000000, time.UTC),
	time.Date(2025, 9, 1, 10, 0, 0, 0, time.UTC),
}
var ownTexts = []string{"a comma, a \"quote\"", "two\nlines", "", "ü, 日本"}

type plain struct {
	User    string    `parquet:"user_id" json:"user_id"`
	Event   string    `parquet:"event_id" json:"event_id"`
	Product string    `parquet:"product_code" json:"product_code"`
	Time    time.Time `parquet:"timestamp,timestamp(microsecond)" json:"timestamp"`
}

// The time is text here.
type withUser[U any] struct {
	User    U      `parquet:"user_id" json:"user_id"`
	Event   string `parquet:"event_id" json:"event_id"`
	Product string `parquet:"product_code" json:"product_code"`
	Time    string `parquet:"timestamp" json:"timestamp"`
}

type withUUID struct {
	User    [16]byte `parquet:"user_id,uuid"`
	Event   string   `parquet:"event_id"`
	Product string   `parquet:"product_code"`
	Time    string   `parquet:"timestamp"`
}

type withEnum struct {
	User    string    `parquet:"user_id,enum"`
	Event   string    `parquet:"event_id,enum"`
	Product string    `parquet:"product_code,enum"`
	Time    time.Time `parquet:"timestamp,timestamp(microsecond)"`
}

type withDictionary struct {
	User    string    `parquet:"user_id,dict"`
	Event   string    `parquet:"event_id,dict"`
	Product string    `parquet:"product_code,dict"`
	Time    time.Time `parquet:"timestamp,timestamp(microsecond)"`
}

type milliseconds struct {
	User    string    `parquet:"user_id"`
	Event   string    `parquet:"event_id"`
	Product string    `parquet:"product_code"`
	Time    time.Time `parquet:"timestamp,timestamp(millisecond)"`
}

type nanoseconds struct {
	User    string    `parquet:"user_id"`
	Event   string    `parquet:"event_id"`
	Product string    `parquet:"product_code"`
	Time    time.Time `parquet:"timestamp,timestamp(nanosecond)"`
}

type dates struct {
	User    string    `parquet:"user_id"`
	Event   string    `parquet:"event_id"`
	Product string    `parquet:"product_code"`
	Time    time.Time `parquet:"timestamp,date"`
}

type epochs struct {
	User    string `parquet:"user_id" json:"user_id"`
	Event   string `parquet:"event_id" json:"event_id"`
	Product string `parquet:"product_code" json:"product_code"`
	Time    int64  `parquet:"timestamp" json:"timestamp"`
}

type withOwn[O any] struct {
	plain
	Own O `parquet:"own" json:"own"`
}

type ownUUID struct {
	plain
	Own [16]byte `parquet:"own,uuid"`
}

type ownTime struct {
	plain
	Own time.Duration `parquet:"own,time(microsecond)"`
}

type ownDecimal struct {
	plain
	Own int64 `parquet:"own,decimal(2:18)"`
}

type ownJSON struct {
	plain
	Own string `parquet:"own,json"`
}

func each[T any](make func(int) T) []T {
	rows := []T{}
	for i := range users {
		rows = append(rows, make(i))
	}
	return rows
}

func row(i int) plain { return plain{fmt.Sprint(users[i]), actions[i], products[i], times[i]} }

func user[U any](as func(int64) U) []withUser[U] {
	return each(func(i int) withUser[U] { return withUser[U]{as(users[i]), actions[i], products[i], rfc3339(times[i])} })
}

func epoch(i int) epochs {
	return epochs{fmt.Sprint(users[i]), actions[i], products[i], times[i].UnixMilli()}
}

// A UUID in whose last 8 bytes is a number.
func uuid(number int64) [16]byte {
	var bytes [16]byte
	for place := range 8 {
		bytes[15-place] = byte(number >> (8 * place))
	}
	return bytes
}

func rfc3339(at time.Time) string { return at.Format(time.RFC3339Nano) }

func toParquet[T any](rows []T, options ...parquet.WriterOption) func(string) error {
	return func(path string) error { return parquet.WriteFile(path, rows, options...) }
}

func own[O any](value O) func(string) error {
	return toParquet(each(func(i int) withOwn[O] { return withOwn[O]{row(i), value} }))
}

func toFile(write func(io.Writer) error) func(string) error {
	return func(path string) error {
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		defer file.Close()
		if !strings.HasSuffix(path, ".gz") {
			return write(file)
		}
		zipped := gzip.NewWriter(file)
		defer zipped.Close()
		return write(zipped)
	}
}

func toJSON[T any](rows []T) func(string) error {
	return toFile(func(file io.Writer) error {
		encoder := json.NewEncoder(file)
		for _, each := range rows {
			if err := encoder.Encode(each); err != nil {
				return err
			}
		}
		return nil
	})
}

func toCSV(format func(time.Time) string, own []string) func(string) error {
	return toFile(func(file io.Writer) error {
		rows := [][]string{{"user_id", "event_id", "product_code", "timestamp", "own"}}
		for i := range users {
			rows = append(rows, []string{fmt.Sprint(users[i]), actions[i], products[i], format(times[i]), own[i]})
		}
		return csv.NewWriter(file).WriteAll(rows)
	})
}

// The version of Go with that of parquet-go: 1.26.8/0.32.0.
func version() string {
	found := strings.TrimPrefix(runtime.Version(), "go")
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "github.com/parquet-go/parquet-go" {
				found += "/" + strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return found
}

func main() {
	folder := os.Args[1]
	cases := map[string]func(string) error{
		"user_id: text.parquet":                 toParquet(each(row)),
		"user_id: dictionary.parquet":           toParquet(each(func(i int) withDictionary { return withDictionary(row(i)) })),
		"user_id: enum.parquet":                 toParquet(each(func(i int) withEnum { return withEnum(row(i)) })),
		"user_id: int32.parquet":                toParquet(user(func(id int64) int32 { return int32(id) })),
		"user_id: int64.parquet":                toParquet(user(func(id int64) int64 { return id })),
		"user_id: uint64.parquet":               toParquet(user(func(id int64) uint64 { return uint64(id) })),
		"user_id: float64.parquet":              toParquet(user(func(id int64) float64 { return float64(id) })),
		"user_id: bytes of text.parquet":        toParquet(user(func(id int64) []byte { return []byte(fmt.Sprint(id)) })),
		"user_id: 16 raw bytes.parquet":         toParquet(user(uuid)),
		"user_id: UUID.parquet":                 toParquet(each(func(i int) withUUID { return withUUID(user(uuid)[i]) })),
		"timestamp: milliseconds.parquet":       toParquet(each(func(i int) milliseconds { return milliseconds(row(i)) })),
		"timestamp: microseconds.parquet":       toParquet(each(row)),
		"timestamp: nanoseconds.parquet":        toParquet(each(func(i int) nanoseconds { return nanoseconds(row(i)) })),
		"timestamp: date.parquet":               toParquet(each(func(i int) dates { return dates(row(i)) })),
		"timestamp: text.parquet":               toParquet(user(func(id int64) string { return fmt.Sprint(id) })),
		"timestamp: epoch milliseconds.parquet": toParquet(each(epoch)),
		"own: UUID.parquet":                     toParquet(each(func(i int) ownUUID { return ownUUID{row(i), uuid(users[i])} })),
		"own: time.parquet":                     toParquet(each(func(i int) ownTime { return ownTime{row(i), 10 * time.Hour} })),
		"own: decimal.parquet":                  toParquet(each(func(i int) ownDecimal { return ownDecimal{row(i), 12345} })),
		"own: JSON.parquet":                     toParquet(each(func(i int) ownJSON { return ownJSON{row(i), `{"x": 1}`} })),
		"own: uint64.parquet":                   own(uint64(1<<64 - 1)),
		"own: bytes.parquet":                    own([]byte{255, 0}),
		"own: list.parquet":                     own([]string{"x", "y"}),
		"own: struct.parquet":                   own(struct{ X int64 }{1}),
		"own: map.parquet":                      own(map[string]int64{"x": 1}),
		"frame: without rows.parquet":           toParquet([]plain{}),
		"timestamp: with a zone.csv":            toCSV(rfc3339, actions),
		"timestamp: as Go prints a time.csv":    toCSV(time.Time.String, actions),
		"own: quotes and line breaks.csv":       toCSV(rfc3339, ownTexts),
		"codec: gz.csv.gz":                      toCSV(rfc3339, actions),
		"timestamp: with a zone.json":           toJSON(each(row)),
		"timestamp: epoch milliseconds.json":    toJSON(each(epoch)),
		"user_id: number.json":                  toJSON(user(func(id int64) int64 { return id })),
		"user_id: float64.json":                 toJSON(user(func(id int64) float64 { return float64(id) })),
		"own: quotes and line breaks.json":      toJSON(each(func(i int) withOwn[string] { return withOwn[string]{row(i), ownTexts[i]} })),
		"own: nested.json": toJSON(each(func(i int) withOwn[map[string][]int] {
			return withOwn[map[string][]int]{row(i), map[string][]int{"x": {1}}}
		})),
		"codec: gz.json.gz": toJSON(each(row)),
	}
	for name, codec := range map[string]compress.Codec{
		"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip,
		"zstd": &parquet.Zstd, "lz4": &parquet.Lz4Raw, "brotli": &parquet.Brotli,
	} {
		cases["codec: "+name+".parquet"] = toParquet(each(row), parquet.Compression(codec))
	}
	written, refused := []string{}, map[string]string{}
	for name, write := range cases {
		if err := write(filepath.Join(folder, name)); err != nil {
			refused[name] = err.Error()
		} else {
			written = append(written, name)
		}
	}
	manifest, _ := json.Marshal(map[string]any{
		"version": version(), "written": written, "refused": refused,
	})
	if err := os.WriteFile(filepath.Join(folder, "manifest.json"), manifest, 0o644); err != nil {
		panic(err)
	}
}
