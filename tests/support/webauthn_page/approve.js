// The browser's side of a security key. What is signed is computed here, from the bytes that are shown: the server
// hands over a request, never a challenge.

const PREFIX = "application/vnd.strongroom.";
const MOST = 16384;
const utf8 = new TextEncoder();

function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

// DSSE's pre-authentication encoding, of lengths in bytes.
function pae(type, payload) {
  const name = utf8.encode(type);
  return joined(utf8.encode(`DSSEv1 ${name.length} `), name, utf8.encode(` ${payload.length} `), payload);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function toBase64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

function element(id) {
  return document.getElementById(id);
}

// One line for each member; text alone, so that nothing in a request becomes markup.
function show(payload) {
  const text = new TextDecoder("utf-8", { fatal: true }).decode(payload);
  const members = Object.entries(JSON.parse(text));
  element("shown").textContent = members.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join("\n");
}

async function sign(payload, type, given) {
  const credential = await navigator.credentials.get({
    publicKey: {
      challenge: await sha256(pae(PREFIX + type, payload)),
      rpId: given.rpId,
      allowCredentials: given.credentials.map((id) => ({ type: "public-key", id: fromBase64(id) })),
      userVerification: "required",
      timeout: 30000,
    },
  });
  const response = credential.response;
  return {
    type: PREFIX + type,
    authenticatorData: toBase64(response.authenticatorData),
    clientData: toBase64(response.clientDataJSON),
    signature: toBase64(response.signature),
  };
}

async function create(given) {
  // The members in canonical order (RFC 8785); neither value needs escaping.
  const binding = utf8.encode(`{"genesis":"${given.genesis}","person":"${given.person}"}`);
  const credential = await navigator.credentials.create({
    publicKey: {
      challenge: await sha256(joined(utf8.encode("strongroom enrolment v1\0"), binding)),
      rp: { id: given.rpId, name: given.rpId },
      user: { id: utf8.encode(given.person), name: given.person, displayName: given.person },
      pubKeyCredParams: [-7, -8].map((alg) => ({ type: "public-key", alg })),
      authenticatorSelection: { residentKey: "discouraged", userVerification: "required" },
      attestation: "direct",
      timeout: 30000,
    },
  });
  const response = credential.response;
  return {
    credential: toBase64(credential.rawId),
    attestation: toBase64(response.attestationObject),
    clientData: toBase64(response.clientDataJSON),
  };
}

async function act(make) {
  let outcome = "done";
  let answer;
  try {
    answer = await make();
  } catch (error) {
    outcome = `refused: ${error.name}`;
    answer = { refused: error.name };
  }
  await fetch("/answer", { method: "POST", body: JSON.stringify(answer) });
  element("outcome").textContent = outcome;
}

const given = await (await fetch("/given")).json();
if (given.payload !== undefined) {
  const payload = fromBase64(given.payload);
  if (payload.length > MOST) {
    throw new Error("the request is too long");
  }
  show(payload);
  element("digest").textContent = Array.from(await sha256(payload), (b) => b.toString(16).padStart(2, "0")).join("");
  element("approve").onclick = () => act(() => sign(payload, "approval.v1", given));
  element("deny").onclick = () => act(() => sign(payload, "denial.v1", given));
  element("approve").disabled = element("deny").disabled = false;
} else {
  element("enrol").onclick = () => act(() => create(given));
  element("enrol").disabled = false;
}
