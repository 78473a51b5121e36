// The console's only script: it has a security key sign the bytes that a page shows, copies ids, and says when
// something changed. What is signed is hashed here, from the bytes themselves. Text becomes text, never markup.

const MOST = 524288;
const ASK_SECONDS = 20;
const utf8 = new TextEncoder();

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function toBase64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

// DSSE's pre-authentication encoding, of lengths in bytes.
function pae(type, payload) {
  const name = utf8.encode(type);
  const head = utf8.encode(`DSSEv1 ${name.length} ${type} ${payload.length} `);
  const whole = new Uint8Array(head.length + payload.length);
  whole.set(head);
  whole.set(payload, head.length);
  return whole;
}

async function sign(form) {
  const payload = fromBase64(form.dataset.payload);
  if (payload.length > MOST) {
    throw new Error("too long to be signed");
  }
  const challenge = await crypto.subtle.digest("SHA-256", pae(form.dataset.type, payload));
  const made = await navigator.credentials.get({
    publicKey: {
      challenge,
      rpId: form.dataset.rp,
      allowCredentials: form.dataset.credentials.split(" ").map((id) => ({ type: "public-key", id: fromBase64(id) })),
      userVerification: "required",
      timeout: 120000,
    },
  });
  form.elements.credential.value = toBase64(made.rawId);
  form.elements.authenticator_data.value = toBase64(made.response.authenticatorData);
  form.elements.client_data.value = toBase64(made.response.clientDataJSON);
  form.elements.signature.value = toBase64(made.response.signature);
}

for (const form of document.querySelectorAll("form[data-sign]")) {
  const button = form.querySelector("button[type=submit]");
  const outcome = form.querySelector(".outcome");
  button.disabled = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    outcome.textContent = "";
    try {
      await sign(form);
      form.submit();
    } catch (error) {
      outcome.textContent = `Not signed: ${error.name === "NotAllowedError" ? "the key wasn't touched, or isn't one of yours" : error.message}`;
      button.disabled = false;
    }
  });
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const said = await navigator.clipboard.writeText(button.dataset.copy).then(() => "copied", () => "not copied");
    button.textContent = said;
    button.setAttribute("aria-label", `${said}: ${button.dataset.copy}`);
  });
}

// A page whose facts changed says so; it doesn't move under the reader's hands.
async function watch(place) {
  const said = document.getElementById("live");
  const first = await (await fetch(place)).text();
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, ASK_SECONDS * 1000));
    const answer = await fetch(place);
    if (!answer.ok) {
      said.textContent = "The console doesn't answer as before. Load the page again.";
      return;
    }
    if ((await answer.text()) !== first) {
      const link = document.createElement("a");
      link.href = location.pathname + location.search;
      link.textContent = "Something changed: load the page again";
      said.replaceChildren(link);
      return;
    }
  }
}

if (document.querySelector("[data-live]")) {
  watch(`${location.pathname}.json${location.search}`);
}
