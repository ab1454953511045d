// Leads back to the recruiter after a while; the link on the page works at once.
export default function ({ data: [data] }) {
  const timer = setTimeout(() => window.location.assign("/done"), 1000 * data.seconds);
  return () => clearTimeout(timer);
}
