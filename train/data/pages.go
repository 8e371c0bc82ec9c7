package data

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"

	"github.com/seed-b982eded/graft/formats"
)

const (
	// maxPageBytes bounds a page as it is unpacked. Writers make pages of about a megabyte,
	// or of one value if that is longer.
	maxPageBytes = 256 << 20
	// maxPageValues bounds the values of a page: runs of one value take no room in the file.
	maxPageValues = 16 << 20
	// maxParquetLeaves bounds the columns of a file, and maxPages its pages.
	maxParquetLeaves = 10_000
	maxPages         = 10 << 20
	// maxPageHeader bounds the header of a page, which may hold its least and its greatest
	// value.
	maxPageHeader = 1 << 20
)

// checkPages walks through the headers of all pages before the library reads them, since it
// takes memory for what they claim.
func checkPages(name string, r io.ReaderAt, file *parquet.File) error {
	meta := file.Metadata()
	if len(meta.Schema) > maxParquetLeaves {
		return formats.Rejectf(name, "", "%d columns (want at most %d)", len(meta.Schema), maxParquetLeaves)
	}
	pages := 0
	in := bufio.NewReaderSize(nil, int(min(maxPageHeader, file.Size())))
	for g, group := range meta.RowGroups {
		for c := range group.Columns {
			chunk := &group.Columns[c].MetaData
			start := chunk.DataPageOffset
			if chunk.DictionaryPageOffset > 0 && chunk.DictionaryPageOffset < start {
				start = chunk.DictionaryPageOffset
			}
			end := start + chunk.TotalCompressedSize
			if start < 4 || chunk.TotalCompressedSize < 0 || end > file.Size() || end < start {
				return formats.Rejectf(name, "", "row group %d, column %d: bytes %d to %d, which are not in the file of %d", g+1, c+1, start, end, file.Size())
			}
			n, err := checkChunk(io.NewSectionReader(r, start, end-start), in, chunk.Codec, &pages)
			if err != nil {
				return formats.Rejectf(name, "", "row group %d, column %d, page %d: %v", g+1, c+1, n+1, err)
			}
		}
	}
	return nil
}

// checkChunk checks the pages of one column of one row group.
func checkChunk(chunk *io.SectionReader, in *bufio.Reader, codec format.CompressionCodec, pages *int) (n int, err error) {
	var protocol thrift.CompactProtocol
	in.Reset(chunk)
	for ; ; n++ {
		head, err := in.Peek(in.Size())
		if err != nil && err != io.EOF {
			return n, err
		}
		if len(head) == 0 {
			return n, nil
		}
		if *pages++; *pages > maxPages {
			return n, fmt.Errorf("more than %d pages", maxPages)
		}
		rest, err := skipStruct(head, 0)
		if err != nil {
			return n, err
		}
		size := len(head) - len(rest)
		var h format.PageHeader
		if err := thrift.Unmarshal(&protocol, head[:size], &h); err != nil {
			return n, err
		}
		if _, err := in.Discard(size); err != nil {
			return n, err
		}
		at, err := chunk.Seek(0, io.SeekCurrent)
		if err != nil {
			return n, err
		}
		left := chunk.Size() - at + int64(in.Buffered())
		if h.CompressedPageSize < 0 || int64(h.CompressedPageSize) > left {
			return n, fmt.Errorf("%d bytes, where %d are left", h.CompressedPageSize, left)
		}
		if h.UncompressedPageSize < 0 || h.UncompressedPageSize > maxPageBytes {
			return n, fmt.Errorf("%d bytes when unpacked (want at most %d)", h.UncompressedPageSize, maxPageBytes)
		}
		values, plain, codec := int32(0), int64(0), codec
		switch {
		case h.DataPageHeader.Valid:
			values = h.DataPageHeader.V.NumValues
		case h.DataPageHeaderV2.Valid:
			v := h.DataPageHeaderV2.V
			values, plain = v.NumValues, int64(v.RepetitionLevelsByteLength)+int64(v.DefinitionLevelsByteLength)
			if v.RepetitionLevelsByteLength < 0 || v.DefinitionLevelsByteLength < 0 {
				plain = -1
			}
			if v.IsCompressed.Valid && !v.IsCompressed.V {
				codec = format.Uncompressed
			}
		case h.DictionaryPageHeader.Valid:
			values = h.DictionaryPageHeader.V.NumValues
		}
		if values < 0 || values > maxPageValues {
			return n, fmt.Errorf("%d values (want at most %d)", values, maxPageValues)
		}
		if plain < 0 || plain > int64(h.CompressedPageSize) {
			return n, fmt.Errorf("levels of %d bytes in %d", plain, h.CompressedPageSize)
		}
		page := io.LimitReader(in, int64(h.CompressedPageSize))
		if _, err := io.CopyN(io.Discard, page, plain); err != nil {
			return n, err
		}
		if err := checkUnpacked(page, codec, int64(h.CompressedPageSize)-plain, int64(h.UncompressedPageSize)-plain); err != nil {
			return n, err
		}
		if _, err := io.Copy(io.Discard, page); err != nil {
			return n, err
		}
	}
}

// checkUnpacked checks that a page unpacks to no more than its header says, for the codecs
// that would go on.
func checkUnpacked(page io.Reader, codec format.CompressionCodec, packed, want int64) error {
	if packed == 0 {
		return nil
	}
	var unpacked io.Reader
	switch codec {
	case format.Uncompressed:
		return nil
	case format.Snappy:
		n, err := binary.ReadUvarint(bufio.NewReaderSize(page, 16))
		if err == nil && n > uint64(max(want, 0)) {
			err = fmt.Errorf("%d bytes when unpacked, where the header says %d", n, want)
		}
		return err
	case format.Lz4Raw:
		if want < 0 || want > 256*packed {
			return fmt.Errorf("%d bytes cannot unpack to %d", packed, want)
		}
		// The library takes more and more memory for a block that is damaged.
		block := make([]byte, packed)
		if _, err := io.ReadFull(page, block); err != nil {
			return err
		}
		_, err := lz4.UncompressBlock(block, make([]byte, want))
		return err
	case format.Gzip:
		z, err := gzip.NewReader(page)
		if err != nil {
			return err
		}
		unpacked = z
	case format.Zstd:
		z, err := zstd.NewReader(page, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxPageBytes))
		if err != nil {
			return err
		}
		defer z.Close()
		unpacked = z
	default:
		return fmt.Errorf("compression %v is not read", codec)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(unpacked, want+1))
	if err == nil && n > want {
		err = fmt.Errorf("more bytes when unpacked than the %d that the header says", want)
	}
	return err
}
