// A radiograph and its overlay: one over the other, faded or blinked, or side by side.
"use strict";

(function (xraycam) {
  const make = xraycam.make;
  const BLINK = 650; // milliseconds: less than two changes a second, below what may cause a seizure

  xraycam.Stage = class {
    constructor() {
      this.share = 1;
      this.aside = false;
      this.timer = null;
      this.original = make("img", { class: "original", alt: "" });
      this.overlay = make("img", { class: "overlay", alt: "" });
      this.otherOverlay = make("img", { class: "overlay", alt: "" });
      for (const picture of [this.original, this.overlay]) picture.addEventListener("error", () => this.explain(picture));
      this.first = make("figcaption", {});
      this.second = make("figcaption", {});
      this.main = make("figure", { class: "main" }, make("div", { class: "pile" }, this.original, this.overlay), this.first);
      this.beside = make("figure", { class: "beside" }, make("div", { class: "pile" }, this.otherOverlay), this.second);
      this.missing = make("p", { class: "missing", hidden: true });
      this.slider = make("input", {
        type: "range", id: "fade", min: 0, max: 100, value: 100, oninput: () => this.fade(this.slider.value / 100),
      });
      this.output = make("output", { for: "fade" }, "100%");
      this.blinkButton = make(
        "button", { type: "button", "aria-pressed": "false", onclick: () => this.blink() }, "Blink ", make("kbd", {}, "b")
      );
      this.asideButton = make(
        "button", { type: "button", "aria-pressed": "false", onclick: () => this.sideBySide() },
        "Side by side ", make("kbd", {}, "s")
      );
      this.bright = this.knob("bright", "Brightness", 30, 250);
      this.contrast = this.knob("contrast", "Contrast", 30, 300);
      this.element = make(
        "div",
        { class: "stage" },
        make("div", { class: "pictures" }, this.main, this.beside),
        this.missing,
        make(
          "div",
          { class: "controls", role: "group", "aria-label": "Picture" },
          make("span", { class: "knob fade" }, make("label", { for: "fade" }, "Overlay"), this.slider, this.output),
          this.blinkButton,
          this.asideButton,
          this.bright.element,
          this.contrast.element,
          make("button", { type: "button", onclick: () => this.reset() }, "Reset")
        )
      );
    }

    knob(id, label, low, high) {
      const input = make("input", { type: "range", id, min: low, max: high, value: 100, oninput: () => this.tone() });
      return { input, element: make("span", { class: "knob" }, make("label", { for: id }, label), input) };
    }

    // `pictures`: {original, overlay, beside}, each {url, label} or absent; `missing`: why a picture is not there.
    show(pictures, missing) {
      this.stop();
      this.pictures = pictures;
      put(this.original, pictures.original);
      put(this.overlay, pictures.overlay);
      const both = Boolean(pictures.original && pictures.overlay);
      this.element.classList.toggle("alone", !both);
      this.slider.disabled = this.blinkButton.disabled = !both;
      this.asideButton.disabled = !both || Boolean(pictures.beside);
      this.missing.textContent = missing || "";
      this.missing.hidden = !missing;
      this.main.hidden = !pictures.original && !pictures.overlay;
      this.arrange();
      this.fade(both ? this.share : 1);
    }

    // Say why a picture is not there, as far as the server says so.
    async explain(picture) {
      const url = picture.getAttribute("src");
      if (!url) return;
      let why = "the file is not there";
      try {
        why = await (await fetch(url)).text();
      } catch (error) {
        // A page opened from disk may not ask.
      }
      if (picture.getAttribute("src") !== url) return;
      this.missing.hidden = false;
      this.missing.textContent = `${this.missing.textContent} ${picture.alt} cannot be shown: ${why}.`.trim();
    }

    arrange() {
      const pictures = this.pictures || {};
      const second = pictures.beside || (this.aside && pictures.original && pictures.overlay ? pictures.overlay : null);
      this.element.classList.toggle("two", Boolean(second));
      this.beside.hidden = !second;
      put(this.otherOverlay, second);
      const isAside = Boolean(second) && !pictures.beside;
      this.overlay.hidden = isAside || !pictures.overlay;
      const main = isAside ? pictures.original : pictures.overlay || pictures.original;
      this.first.textContent = main ? main.label : "";
      this.second.textContent = second ? second.label : "";
      this.asideButton.setAttribute("aria-pressed", String(this.aside));
    }

    fade(share, keep) {
      if (keep !== true) this.share = share;
      this.overlay.style.opacity = this.original.hidden ? "1" : String(share);
      this.slider.value = String(Math.round(share * 100));
      this.output.textContent = `${Math.round(share * 100)}%`;
    }

    blink() {
      if (this.timer !== null) {
        this.stop();
        return;
      }
      if (this.blinkButton.disabled) return;
      if (this.aside) this.sideBySide();
      let on = true;
      this.blinkButton.setAttribute("aria-pressed", "true");
      const flip = () => {
        on = !on;
        this.fade(on ? 1 : 0, true);
      };
      flip();
      this.timer = setInterval(flip, BLINK);
    }

    stop() {
      if (this.timer === null) return;
      clearInterval(this.timer);
      this.timer = null;
      this.blinkButton.setAttribute("aria-pressed", "false");
      this.fade(this.share);
    }

    // The original alone, or the overlay alone.
    only(share) {
      this.stop();
      if (!this.slider.disabled) this.fade(share);
    }

    sideBySide() {
      if (this.asideButton.disabled) return;
      this.stop();
      this.aside = !this.aside;
      this.arrange();
    }

    tone() {
      const value = `brightness(${this.bright.input.value}%) contrast(${this.contrast.input.value}%)`;
      for (const picture of [this.original, this.overlay, this.otherOverlay]) picture.style.filter = value;
    }

    reset() {
      this.stop();
      this.bright.input.value = this.contrast.input.value = "100";
      this.tone();
      if (!this.slider.disabled) this.fade(1);
    }
  };

  function put(image, picture) {
    image.hidden = !picture;
    if (!picture) {
      image.removeAttribute("src");
      image.alt = "";
      return;
    }
    if (image.getAttribute("src") !== picture.url) image.setAttribute("src", picture.url);
    image.alt = picture.label;
  }
})(window.xraycam);
