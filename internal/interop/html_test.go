package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/patch/report"
)

// browser is a headless Chromium, driven through a pair of pipes by its DevTools protocol.
type browser struct {
	t       *testing.T
	in      *os.File
	out     *bufio.Reader
	session string
	id      int
	events  []event
}

type event struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct{ Message string }
}

// startBrowser starts Chromium with an empty page.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("there is no chromium; .ci/run installs it on a Debian")
	}
	toRead, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, toWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{toRead, toWrite} // the protocol's descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toRead.Close()
	toWrite.Close()
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	// A browser that hangs ends with its pipes, and the test with it.
	watch := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		b.call("Browser.close", nil)
		cmd.Wait()
		watch.Stop()
		in.Close()
		out.Close()
	})
	var target struct{ TargetID string }
	b.result("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.result("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.result(domain+".enable", nil, nil)
	}
	return b
}

// next reads a message.
func (b *browser) next() event {
	b.t.Helper()
	text, err := b.out.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("chromium: %v", err)
	}
	var e event
	if err := json.Unmarshal(text[:len(text)-1], &e); err != nil {
		b.t.Fatal(err)
	}
	return e
}

func (b *browser) call(method string, params any) event {
	b.t.Helper()
	b.id++
	message := map[string]any{"id": b.id, "method": method, "params": params}
	if params == nil {
		message["params"] = map[string]any{}
	}
	if b.session != "" && !strings.HasPrefix(method, "Browser.") {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		e := b.next()
		if e.ID == b.id {
			return e
		}
		b.events = append(b.events, e)
	}
}

func (b *browser) result(method string, params, to any) {
	b.t.Helper()
	e := b.call(method, params)
	if e.Error != nil {
		b.t.Fatalf("%s: %s", method, e.Error.Message)
	}
	if to != nil {
		if err := json.Unmarshal(e.Result, to); err != nil {
			b.t.Fatal(err)
		}
	}
}

// open shows a file in a window of some width and waits until it is loaded.
func (b *browser) open(path string, width int, scheme string) {
	b.t.Helper()
	b.result("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.result("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.events = nil
	b.result("Page.navigate", map[string]any{"url": "file://" + path}, nil)
	for i := 0; ; i++ {
		loaded := false
		for _, e := range b.events {
			loaded = loaded || e.Method == "Page.loadEventFired"
		}
		if loaded {
			return
		}
		b.events = append(b.events, b.next())
	}
}

// eval returns what an expression is in the page.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Text string }
	}
	b.result("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails.Text)
	}
	return r.Result.Value
}

// want compares what expressions are in the page.
func (b *browser) want(want any, expression string) {
	b.t.Helper()
	if got := b.eval(expression); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("%s is %v, want %v", expression, got, want)
	}
}

// quiet fails where the page complained, or asked for anything but itself.
func (b *browser) quiet(path string) {
	b.t.Helper()
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
			b.t.Errorf("%s: %s", e.Method, e.Params)
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			if err := json.Unmarshal(e.Params, &p); err != nil {
				b.t.Fatal(err)
			}
			if u := p.Request.URL; u != "file://"+path && !strings.HasPrefix(u, "data:") {
				b.t.Errorf("the page asks for %s", u)
			}
		}
	}
}

// pixels counts the colours of the first canvas.
const pixels = `(() => { const c = document.querySelector(".heat canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
	const s = new Set(); for (let i = 0; i < d.length; i += 4) s.add(d[i] + "," + d[i+1] + "," + d[i+2]); return s.size > 3 })()`

func TestHTML(t *testing.T) {
	light(t)
	page := filepath.Join(t.TempDir(), "page.html")
	graft(t, "diff", fixture("diff", "first"), fixture("diff", "other"), "--base", fixture("diff", "base.safetensors"), "--html", page)
	b := startBrowser(t)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1280, 390} {
			b.open(page, width, scheme)
			b.want(true, fmt.Sprintf("document.documentElement.scrollWidth <= %d", width))
			b.want(true, pixels)
			b.want(3, `document.querySelectorAll(".details svg[role=img]").length`)
			b.want(true, `document.querySelector(".details path.s0").getTotalLength() > 50`)
			lightPaper := b.eval(`getComputedStyle(document.body).backgroundColor.match(/\d+/g)[0] > 128`)
			if lightPaper != (scheme == "light") {
				t.Errorf("%s: the paper is light: %v", scheme, lightPaper)
			}
			b.quiet(page)
		}
	}
	// Keys move in the map and choose.
	b.want("model.layers.0.q_proj", `(() => { const c = document.querySelector(".heat canvas"); c.focus();
		for (const key of ["ArrowUp", "ArrowUp", "ArrowUp", "Enter"]) c.dispatchEvent(new KeyboardEvent("keydown", { key }));
		return document.querySelector(".details .title").textContent })()`)

	hostile := []string{"</script><img src=x onerror=alert(1)>", "\u05d0\u05d1\u202egnp.exe", strings.Repeat("long", 1024), `"'\` + "`${1}", "nul\x00"}
	p := &report.Page{Title: hostile[0], Summary: hostile[2]}
	var items []int
	var names []string
	var numbers []float64
	for i := range 10_000 {
		name := fmt.Sprintf("model.layers.%d.w", i)
		if i < len(hostile) {
			name = hostile[i]
		}
		p.Items = append(p.Items, report.Item{Name: name})
		items, names, numbers = append(items, i), append(names, name), append(numbers, float64(i%7919))
	}
	p.Parts = []report.Part{&report.Details{Title: "d"}, &report.Table{Title: "t", Items: items, Columns: []report.Column{{Name: "n", Texts: names}, {Name: "x", Numbers: numbers}}}}
	page = filepath.Join(t.TempDir(), "hostile.html")
	f, err := os.Create(page)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Write(f, p); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b.open(page, 390, "light")
	b.want(true, "document.documentElement.scrollWidth <= 390")
	b.want(0, `document.querySelectorAll("img").length`)
	b.want(hostile[0], `document.querySelector("tbody th").textContent`)
	b.want(`nul\u0000`, `document.querySelectorAll("tbody th")[4].textContent`)
	b.want(100, `document.querySelectorAll("tbody tr").length`)
	b.want(7918, `(() => { document.querySelectorAll("thead button")[1].click(); return Number(document.querySelector("tbody td").textContent.replace(",", "")) })()`)
	b.want("model.layers.9999.w", `(() => { const i = document.querySelector("input[type=search]"); i.value = "LAYERS.9999.W"; i.dispatchEvent(new Event("input"));
		return [...document.querySelectorAll("tbody th")].map(e => e.textContent).join() })()`)
	b.quiet(page)
}
