/** File systems that several machines may share, by their type in Linux. SQLite's WAL mode does not work on these. */
export const networkFileSystems: ReadonlyMap<number, string> = new Map([
  [0x6969, "NFS"],
  [0x517b, "SMB"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB2"],
  [0x00c36400, "Ceph"],
  [0x0bd00bd0, "Lustre"],
  [0x47504653, "GPFS"],
  [0x01161970, "GFS2"],
  [0x7461636f, "OCFS2"],
  [0x5346414f, "AFS"],
  [0x73757245, "Coda"]
])

/** These may be local or not: FUSE (sshfs, but also shared folders of virtual machines) and 9P. */
export const doubtfulFileSystems: ReadonlyMap<number, string> = new Map([[0x65735546, "FUSE"], [0x01021997, "9P"]])
